"""What the app's tracing sees of us, through LlamaIndex's dispatcher.

Answering is one call inside: its events follow each other when it is done, in the order of what
they tell of, and carry the time that each stage took.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llama_index.core.instrumentation.events import BaseEvent
from llama_index_instrumentation import get_dispatcher

from hybridqa.types import Answer, Decision

dispatcher = get_dispatcher("hybridqa.llamaindex")


class RouteEvent(BaseEvent):
    """Which arm the router chose, and why."""

    arm: str
    reasons: Sequence[str]
    document_ids: Sequence[str]
    timings_ms: Mapping[str, float]

    @classmethod
    def class_name(cls) -> str:
        return "HybridQARouteEvent"


class AdapterEvent(BaseEvent):
    """Which document's adapter the answer's model wore."""

    adapter_id: str
    document_id: str
    rank: int

    @classmethod
    def class_name(cls) -> str:
        return "HybridQAAdapterEvent"


class VerificationEvent(BaseEvent):
    """What the checks made of one attempt at an answer."""

    arm: str
    accepted: bool
    reasons: Sequence[str]
    confidence: float
    support: float | None
    milliseconds: float

    @classmethod
    def class_name(cls) -> str:
        return "HybridQAVerificationEvent"


class IngestEvent(BaseEvent):
    """What became of a document that came through a vector store."""

    document_id: str
    status: str
    adapter_id: str | None
    warning: str | None
    """Why there is no adapter, although one was wanted."""

    @classmethod
    def class_name(cls) -> str:
        return "HybridQAIngestEvent"


def report_route(decision: Decision, timings_ms: Mapping[str, float] | None = None) -> None:
    dispatcher.event(
        RouteEvent(
            arm=decision.arm,
            reasons=decision.reasons,
            document_ids=decision.document_ids,
            timings_ms=timings_ms or {},
        )
    )


def report_attempts(answer: Answer) -> None:
    """Tell of the adapter worn, if any, and of every attempt in order."""
    if answer.adapter is not None:
        dispatcher.event(
            AdapterEvent(
                adapter_id=answer.adapter.id,
                document_id=answer.adapter.document_id,
                rank=answer.adapter.rank,
            )
        )
    for attempt in answer.attempts:
        dispatcher.event(
            VerificationEvent(
                arm=attempt.arm,
                accepted=attempt.accepted,
                reasons=attempt.reasons,
                confidence=attempt.confidence,
                support=attempt.support,
                milliseconds=attempt.milliseconds,
            )
        )
