"""All that there is to tell of one question, and what of it the question log keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hybridqa.engines.route import Routed
from hybridqa.routing.conditions import Candidate
from hybridqa.stores.question_log import LoggedCandidate, LoggedQuestion
from hybridqa.types import Answer, Arm, Style


@dataclass(frozen=True, kw_only=True)
class Trace:
    """One question's way to its answer, or to the error that ended it."""

    question: str
    asked_arm: Arm | None
    """The caller's choice, as are the next two."""
    asked_documents: Sequence[str]
    asked_style: Style | None
    style: Style
    """In force."""
    routed: Routed
    outcome: Answer | Exception
    timings_ms: Mapping[str, float]
    prompt_tokens: int
    completion_tokens: int

    def result(self) -> Answer:
        """Return the answer, or raise the error."""
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def logged(trace: Trace, policy: str, model: str) -> LoggedQuestion:
    """Return what the log keeps.

    Args:
        trace: Of the question.
        policy: Its name.
        model: Fingerprint of the base model.
    """
    answer = trace.outcome if isinstance(trace.outcome, Answer) else None
    decision = trace.routed.decision
    return LoggedQuestion(
        asked_at=trace.routed.at,
        question=trace.question,
        asked_arm=trace.asked_arm,
        asked_documents=tuple(trace.asked_documents),
        asked_style=trace.asked_style,
        style=trace.style,
        policy=policy,
        model=model,
        query=decision.query,
        candidates=tuple(map(_candidate, trace.routed.candidates)),
        route=decision.arm,
        arm=answer.arm if answer else None,
        reasons=tuple(answer.reasons if answer else decision.reasons),
        attempts=tuple(answer.attempts) if answer else (),
        answer=answer.text if answer else "",
        abstained=answer.abstained if answer else False,
        error=None if answer else f"{type(trace.outcome).__name__}: {trace.outcome}",
        citations=tuple(answer.citations) if answer else (),
        confidence=answer.confidence if answer else 0.0,
        timings_ms=dict(trace.timings_ms),
        prompt_tokens=trace.prompt_tokens,
        completion_tokens=trace.completion_tokens,
    )


def _candidate(candidate: Candidate) -> LoggedCandidate:
    record = candidate.record
    return LoggedCandidate(
        document_id=record.document.id,
        content_hash=record.document.content_hash,
        signals=record.signals,
        similarity=candidate.similarity,
        modified_at=record.document.modified_at,
        modified_by=record.document.modified_by,
        ingested_at=record.ingested_at,
        first_ingested_at=record.first_ingested_at,
        adapter_id=candidate.adapter.id if candidate.adapter else None,
    )
