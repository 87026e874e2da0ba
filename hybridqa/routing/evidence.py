"""How single observations become a signal: their log-odds are added and squashed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from hybridqa.types import Signal


class Evidence(NamedTuple):
    """One observation."""

    weight: float
    """Log-odds: +0.7 doubles the odds, -0.7 halves them."""
    reason: str
    """In plain words."""


WORTH_TELLING = 0.2
"""Log-odds; lighter evidence counts but is not listed among the reasons."""


def weigh(prior: float, evidence: Iterable[Evidence]) -> Signal:
    """Return the logistic of prior plus evidence, reasons with their weights, heaviest first.

    Args:
        prior: Log-odds before any evidence.
    """
    items = sorted(evidence, key=lambda item: -abs(item.weight))
    odds = prior + sum(item.weight for item in items)
    told = [item for item in items if abs(item.weight) >= WORTH_TELLING]
    return Signal(
        value=1 / (1 + math.exp(-odds)),
        reasons=tuple(f"{item.reason} ({item.weight:+.1f})" for item in told),
    )
