"""Citations and retrieved passages against gold spans: no model, no words, only places.

RAGAS has the like without a judge in deprecated classes only, and those compare strings by their
Levenshtein distance: a gold span in a longer passage counts as a miss (on 100 XQuAD passages that
all hold it their recall is 0; 0.14 if the whole sentence is gold). Here two spans agree if they
share a character of the same document.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Place(Protocol):
    """Characters `start` to `end` of a document."""

    @property
    def document(self) -> str: ...
    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...


def precision(found: Sequence[Place], gold: Sequence[Place]) -> float | None:
    """Return the share of what was found that touches gold; `None` where either is empty."""
    if not found or not gold:
        return None
    return sum(_touches(place, gold) for place in found) / len(found)


def ranked_precision(found: Sequence[Place], gold: Sequence[Place]) -> float | None:
    """Return the average precision, as RAGAS does: the mean of the precision at each hit.

    Args:
        found: Best first.
        gold: Any one of them makes a hit.

    Returns:
        0 where nothing found touches gold, or nothing was found; `None` where there is no gold.
    """
    if not gold:
        return None
    hits = [_touches(place, gold) for place in found]
    at_hits = [sum(hits[: n + 1]) / (n + 1) for n, hit in enumerate(hits) if hit]
    return sum(at_hits) / len(at_hits) if at_hits else 0.0


def recall(found: Sequence[Place], gold: Sequence[Place]) -> float | None:
    """Return the share of gold's documents of which one span at least is touched.

    `None` where there is no gold; 0 where nothing was found.
    """
    if not gold:
        return None
    documents = {place.document for place in gold}
    touched = {place.document for place in gold if _touches(place, found)}
    return len(touched) / len(documents)


def _touches(place: Place, others: Sequence[Place]) -> bool:
    return any(
        place.document == other.document and place.start < other.end and other.start < place.end
        for other in others
    )
