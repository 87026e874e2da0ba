"""The engine through LlamaIndex's own interface: sync, async, streaming, with both LLMs."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.response.schema import (
    AsyncStreamingResponse,
    Response,
    StreamingResponse,
)
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from hybridqa.errors import InputError, NoLiveAdapterError, QuestionError, UnknownDocumentError
from hybridqa.llamaindex import HybridQueryEngine
from hybridqa.testing import FakeGenerator, best_sentence
from hybridqa.types import Arm, Document, Style
from hybridqa.wiring import HybridQA

ASKED = "Who designed the Corvane lamp?"
SAID = "The Corvane lamp was designed by Ilse Marrow in 1987."


def test_a_response_tells_how_it_came_about(qa: HybridQA) -> None:
    response = HybridQueryEngine(qa).query(ASKED)

    assert isinstance(response, Response)
    assert str(response) == SAID
    told = response.metadata
    assert told is not None
    assert told["hybridqa_arm"] == "adapter"
    assert list(Arm)[told["selector_result"].ind] is Arm.ADAPTER
    assert told["selector_result"].reason == "; ".join(told["hybridqa_reasons"])
    assert told["hybridqa_adapter"] == qa.catalog.adapters("lamp")[0].id
    assert told["hybridqa_confidence"] == pytest.approx(0.9)
    assert told["hybridqa_abstained"] is False
    assert told["hybridqa_citations"][0]["quote"] == SAID
    assert told["hybridqa_completion_tokens"] > 0
    assert told["hybridqa_timings_ms"]["total"] > 0
    best = response.source_nodes[0]
    text = qa.catalog.get("lamp").document.text
    assert isinstance(best.node, TextNode)
    assert text[best.node.start_char_idx : best.node.end_char_idx] == best.node.text
    assert best.node.ref_doc_id == "lamp"
    assert best.node.metadata["source"] == "lamp.txt"
    assert best.score is not None
    assert 0 < best.score <= 1


def test_without_an_answer_the_response_says_so(qa: HybridQA) -> None:
    response = HybridQueryEngine(qa).query("Zyx?")

    assert str(response) == "The documents do not say."
    assert response.metadata is not None
    assert response.metadata["hybridqa_abstained"] is True
    assert response.metadata["hybridqa_citations"] == []


def test_async_and_sync_answer_alike(qa: HybridQA) -> None:
    engine = HybridQueryEngine(qa)

    async def both() -> list[Any]:
        return list(await asyncio.gather(engine.aquery(ASKED), engine.aquery(ASKED)))

    assert {str(response) for response in asyncio.run(both())} == {str(engine.query(ASKED))}


def test_async_answers_do_not_hold_up_the_loop(qa: HybridQA, homes: Any) -> None:
    ran_in = []

    def answer(question: str, texts: Sequence[str]) -> str:
        ran_in.append(threading.current_thread())
        return best_sentence(question, texts)

    qa.generator = FakeGenerator(answer, model_fingerprint=homes.base.fingerprint)
    assert str(asyncio.run(HybridQueryEngine(qa).aquery(ASKED))) == SAID
    assert threading.main_thread() not in ran_in


def test_the_stream_joins_to_the_answer(qa: HybridQA) -> None:
    response = HybridQueryEngine(qa, streaming=True).query(ASKED)

    assert isinstance(response, StreamingResponse)
    pieces = list(response.response_gen)
    assert len(pieces) == len(SAID.split())
    assert "".join(pieces) == SAID


def test_an_async_stream_is_one(qa: HybridQA) -> None:
    async def read() -> tuple[Any, str]:
        response = await HybridQueryEngine(qa, streaming=True).aquery(ASKED)
        assert isinstance(response, AsyncStreamingResponse)
        return response, "".join([piece async for piece in response.async_response_gen()])

    response, text = asyncio.run(read())
    assert text == SAID
    assert response.metadata["hybridqa_arm"] == "adapter"


def test_questions_are_logged_as_those_asked_directly(qa: HybridQA) -> None:
    HybridQueryEngine(qa).query(ASKED)
    qa.ask(ASKED)

    by_engine, direct = (qa.home.path / "questions.jsonl").read_text().splitlines()
    assert SAID in by_engine
    assert SAID in direct


def test_documents_and_arm_can_be_fixed(qa: HybridQA) -> None:
    response = HybridQueryEngine(qa, arm=Arm.RETRIEVAL, document_ids=["bridge"]).query(ASKED)

    assert {node.node.ref_doc_id for node in response.source_nodes} == {"bridge"}
    assert response.metadata is not None
    assert response.metadata["hybridqa_adapter"] is None


def test_synthesize_reads_exactly_the_nodes_given(qa: HybridQA) -> None:
    engine, bundle = HybridQueryEngine(qa), QueryBundle("Who designed the lamp?")
    foreign = NodeWithScore(
        node=TextNode(id_="mine", text="The lamp was designed by a rival.", start_char_idx=100),
        score=0.5,
    )

    response = engine.synthesize(bundle, [foreign], additional_source_nodes=[foreign])

    assert str(response) == "The lamp was designed by a rival."
    assert response.source_nodes == [foreign, foreign]
    assert response.metadata is not None
    assert response.metadata["hybridqa_arm"] == "retrieval"
    (cited,) = response.metadata["hybridqa_citations"]
    assert (cited["document_id"], cited["start"]) == ("mine", 100)
    retrieved = engine.retrieve(bundle)
    assert str(asyncio.run(engine.asynthesize(bundle, retrieved))) == SAID


def test_synthesize_tells_where_the_model_words_an_answer(qa: HybridQA) -> None:
    bundle = QueryBundle("Who designed the lamp?")
    node = NodeWithScore(node=TextNode(text="The lamp was designed by a rival."), score=0.5)

    worded = HybridQueryEngine(qa, style=Style.EITHER).synthesize(bundle, [node])
    quoted = HybridQueryEngine(qa, style=Style.QUOTE).synthesize(bundle, [node])

    assert worded.metadata is not None
    assert quoted.metadata is not None
    assert "own words" in worded.metadata["hybridqa_reasons"][-1]
    assert not any("own words" in reason for reason in quoted.metadata["hybridqa_reasons"])


def test_synthesize_of_nothing_abstains(qa: HybridQA) -> None:
    response = HybridQueryEngine(qa).synthesize(QueryBundle(ASKED), [])

    assert response.metadata is not None
    assert response.metadata["hybridqa_abstained"] is True


def test_the_apps_llm_reads_our_passages_and_wears_no_adapter(qa: HybridQA, scripted: Any) -> None:
    llm = scripted(lambda prompt: "It weighs 840 grams.")
    response = HybridQueryEngine(qa, llm).query("How much does the Corvane lamp weigh?")

    assert str(response) == "It weighs 840 grams."
    assert any("The Corvane lamp was designed" in prompt for prompt in llm.prompts)
    assert not any("hybridqa" in prompt for prompt in llm.prompts)
    told = response.metadata
    assert told is not None
    assert told["hybridqa_arm"] == "retrieval"
    assert told["hybridqa_adapter"] is None
    assert told["hybridqa_confidence"] is None
    assert told["hybridqa_reasons"][0] == "the router chose `adapter`"
    assert any("adapters fit only" in reason for reason in told["hybridqa_reasons"])
    assert told["selector_result"].reason == "; ".join(told["hybridqa_reasons"])
    assert told["hybridqa_citations"][0]["document_id"] == "lamp"


def test_the_apps_llm_may_say_what_no_passage_supports(qa: HybridQA, scripted: Any) -> None:
    response = HybridQueryEngine(qa, scripted(lambda prompt: "Napoleon.")).query(ASKED)

    assert response.metadata is not None
    assert response.metadata["hybridqa_citations"] == []
    assert "no passage supports what the model said" in response.metadata["hybridqa_reasons"]


def test_the_apps_llm_streams_its_tokens(qa: HybridQA, scripted: Any) -> None:
    llm = scripted(lambda prompt: "Ilse Marrow did.")
    response = HybridQueryEngine(qa, llm, streaming=True).query(ASKED)

    assert isinstance(response, StreamingResponse)
    assert list(response.response_gen) == ["Ilse ", "Marrow ", "did. "]
    assert response.metadata is not None
    assert "streamed: not checked against the passages" in response.metadata["hybridqa_reasons"]


def test_the_apps_llm_is_not_asked_what_no_document_bears_on(
    empty: HybridQA, scripted: Any
) -> None:
    llm = scripted(lambda prompt: "anything")
    response = HybridQueryEngine(empty, llm).query(ASKED)

    assert llm.prompts == []
    assert str(response) == "The documents do not say."


def test_bad_input_is_told(qa: HybridQA, scripted: Any) -> None:
    with pytest.raises(InputError, match="arm=adapter"):
        HybridQueryEngine(qa, scripted(str), arm=Arm.ADAPTER)
    with pytest.raises(InputError, match="style=free"):
        HybridQueryEngine(qa, scripted(str), style=Style.FREE)
    with pytest.raises(QuestionError, match="empty"):
        HybridQueryEngine(qa).query("  ")
    with pytest.raises(UnknownDocumentError, match="`gone`"):
        HybridQueryEngine(qa, document_ids=["gone"]).query(ASKED)
    qa.ingest(Document(id="new", text="The new lamp is new.", title="", source=""), "none")
    with pytest.raises(NoLiveAdapterError, match="`new`"):
        HybridQueryEngine(qa, arm=Arm.ADAPTER, document_ids=["new"]).query("What is new?")


def test_it_is_a_query_engine_to_the_rest_of_llamaindex(qa: HybridQA) -> None:
    from llama_index.core.tools import QueryEngineTool

    engine = HybridQueryEngine(qa)
    assert isinstance(engine, BaseQueryEngine)
    assert engine.get_prompts() == {}
    tool = QueryEngineTool.from_defaults(engine, name="docs", description="All documents.")
    assert tool.call(ASKED).content == SAID


def test_route_adapter_and_verification_are_traced(qa: HybridQA, heard: Any) -> None:
    HybridQueryEngine(qa).query(ASKED)

    assert heard.names() == [
        "QueryStartEvent",
        "HybridQARouteEvent",
        "HybridQAAdapterEvent",
        "HybridQAVerificationEvent",
        "QueryEndEvent",
    ]
    _, route, adapter, verification, _ = heard.events
    assert route.arm == "adapter"
    assert route.document_ids[0] == adapter.document_id == "lamp"
    assert verification.accepted
    assert verification.support == pytest.approx(0.9)
    (span,) = {event.span_id for event in heard.events[1:4]}
    assert span.startswith("HybridQueryEngine._answer")
