"""Whether the conditions of a policy hold for a question and the documents found. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from hybridqa.errors import StaleDocumentError
from hybridqa.routing.document_signals import TRUSTED_WITNESSES
from hybridqa.routing.policy import Condition, Thresholds
from hybridqa.types import AdapterRecord, AdapterState, DocumentRecord, QuerySignals, Signal


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A document that may answer the question.

    Raises:
        StaleDocumentError: The adapter is another document's, another revision's or retired.
    """

    record: DocumentRecord
    adapter: AdapterRecord | None
    """Live, and made from the record's revision."""
    similarity: float
    """Cosine of question and the document's best hit, in [-1, 1]."""

    def __post_init__(self) -> None:
        if self.adapter is None:
            return
        document, adapter = self.record.document, self.adapter
        made_from = (adapter.document_id, adapter.content_hash, adapter.state)
        if made_from != (document.id, document.content_hash, AdapterState.LIVE):
            raise StaleDocumentError(
                f"Adapter `{adapter.id[:12]}` ({adapter.state}, made from `{adapter.document_id}` "
                f"at revision `{adapter.content_hash[:12]}`) cannot answer for `{document.id}` at "
                f"revision `{document.content_hash[:12]}`. Ingest the document again, or use "
                "`--arm retrieval`."
            )


@dataclass(frozen=True, kw_only=True)
class Situation:
    """All that a rule can look at."""

    query: QuerySignals
    candidates: Sequence[Candidate]
    """Best first."""
    thresholds: Thresholds
    now: datetime

    @property
    def has_evidence(self) -> bool:
        best = max((candidate.similarity for candidate in self.candidates), default=-1.0)
        return bool(self.candidates) and best >= self.thresholds.min_similarity

    @property
    def document(self) -> Candidate | None:
        """The best candidate; none where there is no evidence."""
        return self.candidates[0] if self.has_evidence else None


class Finding(NamedTuple):
    """Whether something is so, and why."""

    holds: bool
    reason: str


def judge(condition: Condition, situation: Situation) -> Finding | None:
    """Return whether a condition holds; none if it speaks of a document and there is none."""
    test, expected = _TESTS[condition]
    finding = test(situation)
    return finding and Finding(finding.holds is expected, finding.reason)


def _always(_: Situation) -> Finding:
    return Finding(True, "this holds always")


def _asks_for_source(situation: Situation) -> Finding:
    limit = situation.thresholds.citation_above
    return _compared("the question's need for a source", situation.query.citation_need, limit)


def _about_present(situation: Situation) -> Finding:
    limit = situation.thresholds.volatile_above
    return _compared("the question's bearing on the present", situation.query.volatility, limit)


def _volatile(situation: Situation) -> Finding | None:
    if not (found := situation.document):
        return None
    limit = situation.thresholds.volatile_above
    name = f"volatility of `{found.record.document.id}`"
    return _compared(name, found.record.signals.volatility, limit)


def _must_be_cited(situation: Situation) -> Finding | None:
    if not (found := situation.document):
        return None
    limit = situation.thresholds.citation_above
    name = f"citation need of `{found.record.document.id}`"
    return _compared(name, found.record.signals.citation_need, limit)


def _compared(name: str, signal: Signal, limit: float) -> Finding:
    holds = signal.value > limit
    sign = "above" if holds else "not above"
    told = f": {'; '.join(signal.reasons)}" if signal.reasons else ""
    return Finding(holds, f"{name} is {signal.value:.2f}, {sign} {limit:g}{told}")


def _changed(situation: Situation) -> Finding | None:
    if not (found := situation.document):
        return None
    record, limit = found.record, timedelta(days=situation.thresholds.recent_days)
    document = record.document
    known: list[tuple[datetime, str]] = []
    if document.modified_at and document.modified_by in TRUSTED_WITNESSES:
        known.append((document.modified_at, f"says its {document.modified_by}"))
    if record.ingested_at > record.first_ingested_at:
        known.append((record.ingested_at, "seen at ingest"))
    if not known:
        return Finding(False, f"no change of `{document.id}` is known")
    when, witness = max(known)
    days = max((situation.now - when) / timedelta(days=1), 0.0)
    holds = situation.now - when <= limit
    return Finding(
        holds,
        f"`{document.id}` last changed {days:.0f} days ago ({witness}), "
        f"{'within' if holds else 'more than'} {situation.thresholds.recent_days:g}",
    )


def _no_evidence(situation: Situation) -> Finding:
    limit = situation.thresholds.min_similarity
    if not situation.candidates:
        return Finding(True, "no document was found")
    best = max(situation.candidates, key=lambda candidate: candidate.similarity)
    sign = "at least" if situation.has_evidence else "below"
    return Finding(
        not situation.has_evidence,
        f"the best hit, in `{best.record.document.id}`, has similarity {best.similarity:.2f}, "
        f"{sign} {limit:g}",
    )


def _no_adapter(situation: Situation) -> Finding:
    if not (found := situation.document):
        return Finding(True, "there is no document whose adapter could be worn")
    if found.adapter is None:
        return Finding(True, f"`{found.record.document.id}` has no live adapter")
    return Finding(
        False, f"`{found.record.document.id}` has the live adapter `{found.adapter.id[:12]}`"
    )


def _disagree(situation: Situation) -> Finding | None:
    if not (found := situation.document):
        return None
    best, *others = situation.candidates
    if not others:
        return Finding(False, f"all best hits lie in `{found.record.document.id}`")
    rival = max(others, key=lambda candidate: candidate.similarity)
    limit = situation.thresholds.rival_within
    gap = best.similarity - rival.similarity
    if gap < 0:
        how = "is nearer than"
    else:
        how = f"is within {limit:g} of" if gap <= limit else f"is more than {limit:g} from"
    return Finding(
        gap <= limit,
        f"`{rival.record.document.id}` ({rival.similarity:.3f}) {how} "
        f"`{best.record.document.id}` ({best.similarity:.3f})",
    )


_TESTS: Mapping[Condition, tuple[Callable[[Situation], Finding | None], bool]] = {
    Condition.ALWAYS: (_always, True),
    Condition.ASKS_FOR_SOURCE: (_asks_for_source, True),
    Condition.ASKS_FOR_NO_SOURCE: (_asks_for_source, False),
    Condition.ABOUT_PRESENT: (_about_present, True),
    Condition.NOT_ABOUT_PRESENT: (_about_present, False),
    Condition.VOLATILE: (_volatile, True),
    Condition.STABLE: (_volatile, False),
    Condition.CHANGED: (_changed, True),
    Condition.UNCHANGED: (_changed, False),
    Condition.MUST_BE_CITED: (_must_be_cited, True),
    Condition.NEED_NOT_BE_CITED: (_must_be_cited, False),
    Condition.NO_EVIDENCE: (_no_evidence, True),
    Condition.EVIDENCE: (_no_evidence, False),
    Condition.NO_ADAPTER: (_no_adapter, True),
    Condition.ADAPTER: (_no_adapter, False),
    Condition.HITS_DISAGREE: (_disagree, True),
    Condition.HITS_AGREE: (_disagree, False),
}
