"""Our routing decision behind LlamaIndex's selector interface."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from llama_index.core.base.base_selector import BaseSelector, SelectorResult, SingleSelection
from llama_index.core.prompts.mixin import PromptDictType
from llama_index.core.schema import QueryBundle
from llama_index.core.tools.types import ToolMetadata

from hybridqa.errors import InputError
from hybridqa.llamaindex.events import dispatcher, report_route
from hybridqa.types import Arm
from hybridqa.wiring import HybridQA


class StabilitySelector(BaseSelector):
    """Chooses by what is known of the documents and the question, not by the choices' words.

    Example:
        RouterQueryEngine(
            selector=StabilitySelector(qa, [Arm.ADAPTER, Arm.RETRIEVAL]),
            query_engine_tools=[from_weights, from_the_apps_index],
        )
    """

    def __init__(self, qa: HybridQA, arms: Sequence[Arm]) -> None:
        """Say what the choices stand for.

        Args:
            qa: Open.
            arms: One per choice, in their order. A decision for an arm that is not among them
                selects `retrieval`, which must be.

        Raises:
            InputError: `retrieval` is missing.
        """
        if Arm.RETRIEVAL not in arms:
            raise InputError(
                f"The selector's arms are {[str(arm) for arm in arms]}, without `retrieval`, which "
                "it falls back to. Name the choice that answers by retrieval."
            )
        self._qa, self._arms = qa, tuple(Arm(arm) for arm in arms)

    @dispatcher.span
    def _select(self, choices: Sequence[ToolMetadata], query: QueryBundle) -> SelectorResult:
        """Select one choice.

        Raises:
            InputError: There are more or fewer choices than arms.
            QuestionError: The query is empty or too long.
        """
        if len(choices) != len(self._arms):
            raise InputError(
                f"There are {len(choices)} choices for {len(self._arms)} arms. Give the selector "
                "one arm per choice."
            )
        decision = self._qa.explain(query.query_str)
        report_route(decision)
        arm = decision.arm if decision.arm in self._arms else Arm.RETRIEVAL
        reason = "; ".join(decision.reasons)
        return SelectorResult(
            selections=[SingleSelection(index=self._arms.index(arm), reason=reason)]
        )

    async def _aselect(self, choices: Sequence[ToolMetadata], query: QueryBundle) -> SelectorResult:
        return await asyncio.to_thread(self._select, choices, query)

    def _get_prompts(self) -> PromptDictType:
        return {}

    def _update_prompts(self, prompts_dict: PromptDictType) -> None:
        """Keep none: no prompt is used."""
