"""How likely a document's truth changes, and how likely its source is asked for. Pure.

The owner's word decides. Without it, observations are weighed and added as log-odds: the kind that
title or file name tell, the revision history, and the text's own words, dates and headings. The
weights stand below and in `document_lexicon`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from hybridqa.routing.document_kind import kind_of
from hybridqa.routing.document_text import Mentions, TextFacts, text_facts
from hybridqa.routing.evidence import Evidence, weigh
from hybridqa.types import Document, DocumentSignals, Signal


class _Scale(NamedTuple):
    """Log-odds per unit, and the most that all units together can weigh."""

    each: float
    most: float

    def weight(self, amount: float) -> float:
        return max(min(self.each * amount, self.most), -self.most)


# Hand-set log-odds. A title that names the kind weighs 2 to 3.5 (`document_lexicon.KINDS`).
_VOLATILITY_PRIOR = -1.0
_MOMENT = _Scale(each=0.22, most=2.2)  # by weighted mentions in 1,000 words
_ENTRIES = _Scale(each=0.7, most=3.5)  # by entries headed by versions or dates
_SPREAD_OF_A_LOG = 0.5  # entries that fill less of the text weigh less: a list within a page
_RECENT_DATES = _Scale(each=0.25, most=2.0)  # by dates in 1,000 words
_OLD_DATES = _Scale(each=-0.08, most=0.8)  # by dates in 1,000 words, if none is recent
_CHANGES = _Scale(each=0.25, most=2.5)  # by changes in the last year beyond two
_CHANGED_LATELY = 0.6
_UNCHANGED_FOR_A_YEAR = -0.7
_UNCHANGED_FOR_THREE_YEARS = -1.2
_CITATION_PRIOR = -1.0
_FORMAL = _Scale(each=0.2, most=3.0)  # by weighted mentions in 1,000 words
_CLAUSES = _Scale(each=0.15, most=1.2)  # by numbered clauses

_LATELY = timedelta(days=14)
_YEAR = timedelta(days=365)
_BURST = timedelta(hours=24)
TRUSTED_WITNESSES = frozenset({"owner", "git"})
"""Whose word on modification times counts; copying or cloning gives a file a new time on disk."""


def document_signals(document: Document, now: datetime) -> DocumentSignals:
    """Return volatility and citation need with their reasons.

    Args:
        document: `metadata` may hold the owner's `stability` (stable, volatile) and `citation`
            (required, optional). Any other word there is taken as the careful one of the two: front
            matter serves other programs as well, some of which use the same keys.
        now: Timezone-aware.
    """
    stability = _owners_word(document, "stability", zero="stable", one="volatile")
    citation = _owners_word(document, "citation", zero="optional", one="required")
    if stability and citation:
        return DocumentSignals(volatility=stability, citation_need=citation)
    facts = text_facts(document.text, now)
    return DocumentSignals(
        volatility=stability or weigh(_VOLATILITY_PRIOR, _on_volatility(document, facts, now)),
        citation_need=citation or weigh(_CITATION_PRIOR, _on_citation(document, facts)),
    )


def _owners_word(document: Document, key: str, zero: str, one: str) -> Signal | None:
    said = document.metadata.get(key, "").strip()
    if not said:
        return None
    if said.lower() == zero:
        return Signal(value=0.0, reasons=(f"its owner says `{key}: {zero}`",))
    reason = f"its owner says `{key}: {said}`"
    if said.lower() != one:
        reason += f", which is neither `{zero}` nor `{one}` and taken as `{one}`"
    return Signal(value=1.0, reasons=(reason,))


def _on_volatility(document: Document, facts: TextFacts, now: datetime) -> Iterator[Evidence]:
    if kind := kind_of(document):
        yield Evidence(kind.volatility, kind.reason)
    yield Evidence(
        _MOMENT.weight(facts.present.density),
        f"it speaks of the moment: {_listed(facts.present)}",
    )
    if facts.entries.number > 1:
        yield Evidence(
            _ENTRIES.weight(facts.entries.number)
            * min(1.0, facts.entries.spread / _SPREAD_OF_A_LOG),
            f"it has {facts.entries.number} entries headed by versions, dates or periods",
        )
    if facts.recent_dates:
        yield Evidence(
            _RECENT_DATES.weight(facts.recent_dates * facts.per_thousand),
            f"it names {facts.recent_dates} dates of the last half year or to come",
        )
    elif facts.old_dates and facts.entries.number <= 1:
        yield Evidence(
            _OLD_DATES.weight(facts.old_dates * facts.per_thousand),
            f"all its dates are past, {facts.old_dates} by more than two years",
        )
    yield from _on_changes(document, now)


def _on_changes(document: Document, now: datetime) -> Iterator[Evidence]:
    changes = _without_bursts(document.revisions)
    in_a_year = sum(now - change <= _YEAR for change in changes)
    if in_a_year > 2:
        yield Evidence(
            _CHANGES.weight(in_a_year - 2),
            f"it changed on {in_a_year} occasions in the last 365 days",
        )
    known = changes[:1]
    if document.modified_at and document.modified_by in TRUSTED_WITNESSES:
        known = [*known, document.modified_at]
    if not known:
        return
    age = now - max(known)
    told = f"its last known change was {max(age.days, 0)} days ago"
    written_only = len(changes) == 1 and document.modified_by != "owner"
    if age <= _LATELY and not written_only:
        yield Evidence(_CHANGED_LATELY, told)
    elif age > 3 * _YEAR:
        yield Evidence(_UNCHANGED_FOR_THREE_YEARS, told)
    elif age > _YEAR:
        yield Evidence(_UNCHANGED_FOR_A_YEAR, told)


def _without_bursts(revisions: Sequence[datetime]) -> list[datetime]:
    """Return one revision of each burst, newest first: commits of one day are one change."""
    changes: list[datetime] = []
    for revision in sorted(revisions, reverse=True):
        if not changes or changes[-1] - revision > _BURST:
            changes.append(revision)
    return changes


def _on_citation(document: Document, facts: TextFacts) -> Iterator[Evidence]:
    if kind := kind_of(document):
        yield Evidence(kind.citation, kind.reason)
    yield Evidence(
        _FORMAL.weight(facts.formal.density),
        f"it speaks of law, duty, safety or accounts: {_listed(facts.formal)}",
    )
    if facts.clauses > 1:
        yield Evidence(_CLAUSES.weight(facts.clauses), f"it has {facts.clauses} numbered clauses")


def _listed(mentions: Mentions) -> str:
    return ", ".join(f"`{phrase}`" for phrase in mentions.phrases)
