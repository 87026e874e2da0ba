"""Our answers behind LlamaIndex's query engine interface."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.base_selector import SelectorResult, SingleSelection
from llama_index.core.base.response.schema import (
    RESPONSE_TYPE,
    AsyncStreamingResponse,
    Response,
    StreamingResponse,
)
from llama_index.core.callbacks.base import CallbackManager
from llama_index.core.callbacks.schema import CBEventType, EventPayload
from llama_index.core.llms.llm import LLM
from llama_index.core.prompts.mixin import PromptMixinType
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.schema import NodeWithScore, QueryBundle

from hybridqa.errors import InputError
from hybridqa.llamaindex.events import dispatcher, report_attempts, report_route
from hybridqa.llamaindex.nodes import to_hit, to_nodes
from hybridqa.llamaindex.retriever import HybridRetriever
from hybridqa.llamaindex.streams import in_thread
from hybridqa.types import Answer, Arm, Citation, Style
from hybridqa.wiring import HybridQA

ABSTENTION = "The documents do not say."
"""The text of a response without an answer; `metadata["hybridqa_abstained"]` tells for sure."""


class HybridQueryEngine(BaseQueryEngine):
    """Routes, answers and verifies; every response tells how, in its metadata.

    `source_nodes` are the passages the router looked at, best first, with their offsets.
    `selector_result` is the arm that answered, as its index in `hybridqa.types.Arm`, and why. Of
    the rest each key begins with `hybridqa_`: `arm`, `reasons`, `confidence`, `citations` (with
    offsets), `adapter` (id of the one worn), `abstained`, `prompt_tokens`, `completion_tokens`,
    `timings_ms`.

    With the app's own LLM, that one answers from our passages, by LlamaIndex's synthesizer.
    Adapters fit only the home's base model, so none is worn: `hybridqa_reasons` says so, and
    confidence and tokens are `None`. If no passage bears on the question, the LLM is not asked.

    What streams: with the app's LLM, its tokens as they come, so that citations are not checked.
    Without, an answer is verified before a word of it is shown; the stream then yields the
    finished text word by word, and saves no time.
    """

    def __init__(
        self,
        qa: HybridQA,
        llm: LLM | None = None,
        *,
        arm: Arm | None = None,
        document_ids: Sequence[str] = (),
        style: Style | None = None,
        streaming: bool = False,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        """Wire the home.

        Args:
            qa: Open.
            llm: The app's own, instead of the home's base model.
            arm: Always this one, and its answer unchecked; `None` lets the policy decide.
            document_ids: Answer from these documents only; empty searches all.
            style: `None` takes the policy's.
            streaming: Return `StreamingResponse`s.
            callback_manager: As in any query engine.

        Raises:
            InputError: With `llm`, an arm or style: they are ways to use the home's model.
        """
        if llm is not None and (arm is not None or style is not None):
            given = f"`arm={arm}`" if arm is not None else f"`style={style}`"
            raise InputError(
                f"{given} says how the home's model answers, but the app's LLM is to answer. Leave "
                "out one of the two."
            )
        self._qa, self._arm, self._document_ids = qa, arm, tuple(document_ids)
        self._style, self._streaming = style, streaming
        self._retriever = HybridRetriever(qa, None, document_ids, callback_manager)
        self._llm_name = llm.metadata.model_name if llm is not None else ""
        self._synthesizer = (
            get_response_synthesizer(
                llm=llm, streaming=streaming, callback_manager=callback_manager
            )
            if llm is not None
            else None
        )
        super().__init__(callback_manager)

    def _get_prompt_modules(self) -> PromptMixinType:
        return {"response_synthesizer": self._synthesizer} if self._synthesizer else {}

    def retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return self._retriever.retrieve(query_bundle)

    def synthesize(
        self,
        query_bundle: QueryBundle,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
    ) -> RESPONSE_TYPE:
        """Answer from exactly these nodes, ours or the app's, whatever the policy says."""
        sources = [*nodes, *(additional_source_nodes or ())]
        if not nodes:
            reasons = ["there are no passages to answer from"]
            return self._respond(ABSTENTION, sources, _told(Arm.RETRIEVAL, reasons))
        if self._synthesizer is not None:
            return self._by_app(query_bundle, nodes, sources, [])
        from hybridqa.llamaindex.synthesis import answer_from

        hits = [to_hit(node) for node in nodes]
        answer = answer_from(self._qa, query_bundle.query_str, hits, self._style)
        report_attempts(answer)
        return self._respond(answer.text or ABSTENTION, sources, _told_of(answer))

    async def asynthesize(
        self,
        query_bundle: QueryBundle,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
    ) -> RESPONSE_TYPE:
        return _for_async(
            await asyncio.to_thread(self.synthesize, query_bundle, nodes, additional_source_nodes)
        )

    def _query(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        with self.callback_manager.event(
            CBEventType.QUERY, payload={EventPayload.QUERY_STR: query_bundle.query_str}
        ) as event:
            answer = self._answer if self._synthesizer is None else self._answer_by_app
            response = answer(query_bundle)
            event.on_end(payload={EventPayload.RESPONSE: response})
        return response

    async def _aquery(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        return _for_async(await asyncio.to_thread(self._query, query_bundle))

    @dispatcher.span
    def _answer(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        asked = query_bundle.query_str
        trace = self._qa.trace(asked, self._arm, self._document_ids, self._style)
        report_route(trace.routed.decision, trace.timings_ms)
        answer = trace.result()
        report_attempts(answer)
        nodes = to_nodes(trace.routed.hits, self._qa.catalog)
        return self._respond(answer.text or ABSTENTION, nodes, _told_of(answer))

    @dispatcher.span
    def _answer_by_app(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        decision = self._qa.explain(query_bundle.query_str, None, self._document_ids)
        report_route(decision)
        reasons = [f"the router chose `{decision.arm}`", *decision.reasons]
        if not decision.document_ids:
            reasons.append("no passage bears on the question")
            return self._respond(ABSTENTION, [], _told(Arm.RETRIEVAL, reasons))
        nodes = self.retrieve(query_bundle)
        return self._by_app(query_bundle, nodes, nodes, reasons)

    def _by_app(
        self,
        query_bundle: QueryBundle,
        nodes: list[NodeWithScore],
        sources: list[NodeWithScore],
        reasons: list[str],
    ) -> RESPONSE_TYPE:
        from hybridqa.engines.cite import find_support

        assert self._synthesizer is not None
        response = self._synthesizer.synthesize(query_bundle, nodes)
        reasons.append(
            f"the app's own model `{self._llm_name}` read {len(nodes)} passages; adapters fit only "
            f"the home's model `{self._qa.config.model.name}`, so none was worn"
        )
        citations: list[Citation] = []
        if self._streaming:
            reasons.append("streamed: not checked against the passages")
        elif found := find_support(str(response), [to_hit(node) for node in nodes]):
            citations.append(found)
        else:
            reasons.append("no passage supports what the model said")
        response.source_nodes = sources
        response.metadata = _told(Arm.RETRIEVAL, reasons, citations, abstained=False)
        return response

    def _respond(
        self, text: str, nodes: list[NodeWithScore], metadata: dict[str, Any]
    ) -> RESPONSE_TYPE:
        if not self._streaming:
            return Response(text, source_nodes=nodes, metadata=metadata)
        words = (word[0] for word in re.finditer(r"\s*\S+", text))
        return StreamingResponse(words, source_nodes=nodes, metadata=metadata)


def _told_of(answer: Answer) -> dict[str, Any]:
    told = _told(answer.arm, answer.reasons, answer.citations, abstained=answer.abstained)
    return told | {
        "hybridqa_confidence": answer.confidence,
        "hybridqa_adapter": answer.adapter.id if answer.adapter else None,
        "hybridqa_prompt_tokens": answer.prompt_tokens,
        "hybridqa_completion_tokens": answer.completion_tokens,
        "hybridqa_timings_ms": dict(answer.timings_ms),
    }


def _told(
    arm: Arm,
    reasons: Sequence[str],
    citations: Sequence[Citation] = (),
    abstained: bool = True,
) -> dict[str, Any]:
    selection = SingleSelection(index=list(Arm).index(arm), reason="; ".join(reasons))
    return {
        "selector_result": SelectorResult(selections=[selection]),
        "hybridqa_arm": str(arm),
        "hybridqa_reasons": list(reasons),
        "hybridqa_confidence": None,
        "hybridqa_citations": [asdict(citation) for citation in citations],
        "hybridqa_adapter": None,
        "hybridqa_abstained": abstained,
        "hybridqa_prompt_tokens": None,
        "hybridqa_completion_tokens": None,
        "hybridqa_timings_ms": {},
    }


def _for_async(response: RESPONSE_TYPE) -> RESPONSE_TYPE:
    if not isinstance(response, StreamingResponse):
        return response
    pieces: Iterator[str] = response.response_gen
    return AsyncStreamingResponse(in_thread(pieces), response.source_nodes, response.metadata)
