"""What can be counted in a text: words of the moment and of law, dates, entries, clauses. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from hybridqa.routing.document_dates import RECENT, Entries, dates_in, entries_in
from hybridqa.routing.document_lexicon import FORMAL, PRESENT
from hybridqa.routing.phrases import PhraseTable, words_of

_SAMPLE_HEAD = 16_000
_SAMPLE_WINDOW = 4_000
_SAMPLE_WINDOWS = 4
"""In characters: longer texts are judged by their beginning and windows spread over the rest."""
_FEWEST_WORDS = 250
"""Densities of shorter texts are reckoned as if they had so many words."""
_OLD = timedelta(days=730)
_MOST_OF_ONE = 6.0
"""Weighted mentions in a thousand words that one phrase can add, however often it is repeated."""
_TOLD_PHRASES = 3

_PRESENT = PhraseTable(PRESENT)
_FORMAL = PhraseTable(FORMAL)
_CLAUSE = re.compile(
    r"^[ \t#*]*(?:§+\s?\d|(?:clause|article|section)\s\d+|\([a-z]{1,3}\)\s|#{1,4}\s?\d+\.\s)",
    re.IGNORECASE | re.MULTILINE,
)


class Mentions(NamedTuple):
    """How densely the phrases of a lexicon stand in a text."""

    density: float
    """Weighted mentions in a thousand words."""
    phrases: Sequence[str]
    """Those that weigh most."""


class TextFacts(NamedTuple):
    """Counts from a text or, where it is long, from a sample."""

    present: Mentions
    formal: Mentions
    entries: Entries
    clauses: int
    recent_dates: int
    """In the last half year or to come."""
    old_dates: int
    """More than two years past."""
    per_thousand: float
    """Factor that turns a count into one per thousand words."""


def text_facts(text: str, now: datetime) -> TextFacts:
    """Count what the classifier weighs; time is bounded whatever the length of the text."""
    sample = _sample(text)
    words = words_of(sample)
    per_thousand = 1000 / max(len(words), _FEWEST_WORDS)
    today = now.date()
    dates = dates_in(sample)
    return TextFacts(
        present=_mentions(_PRESENT, words, per_thousand),
        formal=_mentions(_FORMAL, words, per_thousand),
        entries=entries_in(sample, today),
        clauses=len(_CLAUSE.findall(sample)),
        recent_dates=sum(today - RECENT <= found for found in dates),
        old_dates=sum(found < today - _OLD for found in dates),
        per_thousand=per_thousand,
    )


def _sample(text: str) -> str:
    if len(text) <= _SAMPLE_HEAD + _SAMPLE_WINDOW * _SAMPLE_WINDOWS:
        return text
    step = (len(text) - _SAMPLE_HEAD) // _SAMPLE_WINDOWS
    starts = [_SAMPLE_HEAD + step * i for i in range(1, _SAMPLE_WINDOWS + 1)]
    windows = [text[start - _SAMPLE_WINDOW : start] for start in starts]
    return "\n".join([text[:_SAMPLE_HEAD], *windows])


def _mentions(table: PhraseTable[float], words: Sequence[str], per_thousand: float) -> Mentions:
    totals: dict[str, float] = {}
    for match in table.find(words):
        if match.value:
            totals[match.phrase] = totals.get(match.phrase, 0.0) + match.value
    heaviest = sorted(totals, key=lambda phrase: -totals[phrase])[:_TOLD_PHRASES]
    return Mentions(
        sum(min(total * per_thousand, _MOST_OF_ONE) for total in totals.values()), heaviest
    )
