"""What a question asks for beyond its subject: the present, a source. Pure.

Only the question's words speak here; a question that looks timeless may still concern a volatile
document, which `document_signals` knows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from hybridqa.routing.evidence import Evidence, weigh
from hybridqa.routing.phrases import PhraseTable, words_of
from hybridqa.routing.query_lexicon import LEXICONS
from hybridqa.types import QuerySignals, Signal

_PRIOR = -2.0
_CAP = 5.0
"""Log-odds that all phrases together can reach."""


def _merged(tables: Collection[Mapping[str, float]]) -> PhraseTable[float]:
    return PhraseTable({phrase: weight for table in tables for phrase, weight in table.items()})


_VOLATILITY = _merged([lexicon.volatility for lexicon in LEXICONS])
_CITATION = _merged([lexicon.citation for lexicon in LEXICONS])
_UNLESS = {phrase: words for lexicon in LEXICONS for phrase, words in lexicon.unless.items()}


def query_signals(question: str) -> QuerySignals:
    """Return how much the question is about the present, and how much it asks for a source."""
    words = words_of(question)
    return QuerySignals(
        volatility=_signal(_VOLATILITY, words), citation_need=_signal(_CITATION, words)
    )


def _signal(table: PhraseTable[float], words: list[str]) -> Signal:
    said = {
        match.phrase: match.value
        for match in table.find(words)
        if match.value and not _UNLESS.get(match.phrase, frozenset()) & set(words)
    }
    total = sum(said.values())
    shrink = min(1.0, _CAP / total) if total > 0 else 1.0
    return weigh(
        _PRIOR,
        [Evidence(weight * shrink, f"it says `{phrase}`") for phrase, weight in said.items()],
    )
