"""Whether an arm's confidence says how often it is right, and what it is worth for withholding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybridqa.eval.statistics import Floats

BINS = 10
POINTS = 101


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Answers with a confidence from `low` to below `high` (in the last bin, to 1)."""

    low: float
    high: float
    n: int
    """At least one: empty bins are left out."""
    confidence: float
    """Mean."""
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class RiskPoint:
    """What is left when answers of lower confidence than `threshold` are withheld."""

    coverage: float
    """Share of the answers that are given."""
    risk: float
    """Share of these that are wrong."""
    threshold: float


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Of one arm's answers; abstentions and failures are none."""

    n: int
    ece: float | None
    """Expected calibration error: mean distance of accuracy and confidence over ten equal bins,
    weighted by their answers. `None` without answers, as `aurc`."""
    aurc: float | None
    """Area under the risk-coverage curve: mean risk over all numbers of answers given."""
    bins: tuple[Bin, ...]
    risk_coverage: tuple[RiskPoint, ...]
    """From the most certain answers to all; at most 101 points."""


def calibrate(confidence: Floats, right: Floats) -> Calibration:
    """Compare confidence with correctness.

    Args:
        confidence: Of each answer, in [0, 1].
        right: 1 where the answer is right, else 0; of equal length.
    """
    n = len(confidence)
    if n == 0:
        return Calibration(n=0, ece=None, aurc=None, bins=(), risk_coverage=())
    bins = _bins(confidence, right)
    points, aurc = _risk_coverage(confidence, right)
    return Calibration(
        n=n,
        ece=sum(each.n * abs(each.accuracy - each.confidence) for each in bins) / n,
        aurc=aurc,
        bins=bins,
        risk_coverage=points,
    )


def _bins(confidence: Floats, right: Floats) -> tuple[Bin, ...]:
    numbers = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return tuple(
        Bin(
            low=number / BINS,
            high=(number + 1) / BINS,
            n=int(inside.sum()),
            confidence=float(confidence[inside].mean()),
            accuracy=float(right[inside].mean()),
        )
        for number in range(BINS)
        if (inside := numbers == number).any()
    )


def _risk_coverage(confidence: Floats, right: Floats) -> tuple[tuple[RiskPoint, ...], float]:
    """Return the curve at its thresholds and the area under it.

    Answers of equal confidence can only be given or withheld together; the area takes the mean over
    all their orders.
    """
    levels, level, counts = np.unique(-confidence, return_inverse=True, return_counts=True)
    wrong = np.bincount(level, 1 - right)
    given, errors = np.cumsum(counts), np.cumsum(wrong)
    steps = np.arange(1, len(confidence) + 1)
    area = np.interp(steps, np.concatenate([[0], given]), np.concatenate([[0], errors])) / steps
    shown = np.unique(np.linspace(0, len(levels) - 1, min(len(levels), POINTS)).round().astype(int))
    points = tuple(
        RiskPoint(
            coverage=float(given[at] / len(confidence)),
            risk=float(errors[at] / given[at]),
            threshold=float(-levels[at]),
        )
        for at in shown
    )
    return points, float(area.mean())
