"""Bootstrap intervals of means, differences and ratios of scores.

Passages are drawn, not questions: questions about one passage are not independent.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
RESAMPLES = 4000
_BLOCK = 1 << 22  # drawn counts held at once

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with the bounds of its 95 % percentile bootstrap interval."""

    mean: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        return {"mean": self.mean, "low": self.low, "high": self.high}


def mean_interval(values: Sequence[float], clusters: Sequence[Hashable], seed: int = 0) -> Interval:
    """Return the mean of scores.

    Args:
        values: One per question, at least one.
        clusters: The passage of each; drawn as a whole.
        seed: Equal seeds draw equal passages, so intervals of several arms are comparable.
    """
    return _interval([values], clusters, seed, lambda means: means[0])


def difference_interval(
    values: Sequence[float], others: Sequence[float], clusters: Sequence[Hashable], seed: int = 0
) -> Interval:
    """Return the mean of `values - others`, paired: both are scores of the same questions."""
    return _interval([values, others], clusters, seed, lambda means: means[0] - means[1])


def ratio_interval(
    values: Sequence[float], others: Sequence[float], clusters: Sequence[Hashable], seed: int = 0
) -> Interval | None:
    """Return mean of `values` / mean of `others`, paired; `None` where `others` has mean 0.

    Draws in which `others` has mean 0 are left out.
    """
    if not any(others):
        return None
    return _interval([values, others], clusters, seed, lambda means: means[0] / means[1])


def _interval(
    series: Sequence[Sequence[float]],
    clusters: Sequence[Hashable],
    seed: int,
    statistic: Callable[[Floats], Floats],
) -> Interval:
    """Apply `statistic` to means of shape (series, draws)."""
    sums, sizes = _per_cluster(series, clusters)
    count = len(sizes)
    estimate = float(statistic(sums.sum(1, keepdims=True) / sizes.sum())[0])
    rng = np.random.default_rng(seed)
    drawn = []
    block = max(1, _BLOCK // count)
    for start in range(0, RESAMPLES, block):
        times = rng.multinomial(
            count, np.full(count, 1 / count), size=min(block, RESAMPLES - start)
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            drawn.append(statistic(sums @ times.T / (times @ sizes)))
    every = np.concatenate(drawn)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(every[np.isfinite(every)], [tail, 1 - tail])
    return Interval(mean=estimate, low=float(low), high=float(high))


def _per_cluster(
    series: Sequence[Sequence[float]], clusters: Sequence[Hashable]
) -> tuple[Floats, Floats]:
    """Return sums of shape (series, clusters) and sizes of shape (clusters,)."""
    if not clusters or any(len(values) != len(clusters) for values in series):
        lengths = [len(values) for values in series]
        raise ValueError(
            f"Every score needs its cluster, and there must be one at least: got {lengths} scores "
            f"and {len(clusters)} clusters."
        )
    numbers = {cluster: n for n, cluster in enumerate(dict.fromkeys(clusters))}
    members = np.array([numbers[cluster] for cluster in clusters])
    sums: Floats = np.stack(
        [np.bincount(members, np.asarray(v, np.float64), len(numbers)) for v in series]
    )
    return sums, np.bincount(members).astype(np.float64)
