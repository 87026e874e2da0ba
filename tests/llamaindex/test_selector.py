import asyncio
from typing import Any

import pytest
from llama_index.core.query_engine import CustomQueryEngine, RouterQueryEngine
from llama_index.core.tools import QueryEngineTool

from hybridqa.errors import InputError
from hybridqa.llamaindex import HybridQueryEngine, StabilitySelector
from hybridqa.types import Arm
from hybridqa.wiring import HybridQA

STABLE = "Who designed the Corvane lamp?"
VOLATILE = "What is the current price of the Corvane lamp today?"


class AppsEngine(CustomQueryEngine):
    def custom_query(self, query_str: str) -> str:
        return "the app's own index"


def router(qa: HybridQA) -> RouterQueryEngine:
    return RouterQueryEngine(
        selector=StabilitySelector(qa, [Arm.ADAPTER, Arm.RETRIEVAL]),
        query_engine_tools=[
            QueryEngineTool.from_defaults(HybridQueryEngine(qa), description="weights"),
            QueryEngineTool.from_defaults(AppsEngine(), description="index"),
        ],
    )


def test_a_stock_router_follows_our_decision(qa: HybridQA, heard: Any) -> None:
    stable, volatile = router(qa).query(STABLE), router(qa).query(VOLATILE)

    assert "Ilse Marrow" in str(stable)
    assert str(volatile) == "the app's own index"
    assert stable.metadata is not None
    assert stable.metadata["hybridqa_arm"] == "adapter"  # ours stays, beside the router's
    assert stable.metadata["selector_result"].ind == 0
    assert volatile.metadata is not None
    assert volatile.metadata["selector_result"].ind == 1
    assert volatile.metadata["selector_result"].reason == "; ".join(qa.explain(VOLATILE).reasons)
    assert "HybridQARouteEvent" in heard.names()


def test_async_selects_the_same(qa: HybridQA) -> None:
    assert str(asyncio.run(router(qa).aquery(VOLATILE))) == "the app's own index"


def test_an_arm_without_a_choice_is_left_to_retrieval(qa: HybridQA) -> None:
    selector = StabilitySelector(qa, [Arm.RETRIEVAL, Arm.BASE])

    assert selector.select(["index", "memory"], STABLE).ind == 0


def test_bad_input_is_told(qa: HybridQA) -> None:
    with pytest.raises(InputError, match="without `retrieval`"):
        StabilitySelector(qa, [Arm.ADAPTER])
    with pytest.raises(InputError, match="3 choices for 2 arms"):
        StabilitySelector(qa, [Arm.ADAPTER, Arm.RETRIEVAL]).select(["a", "b", "c"], STABLE)
