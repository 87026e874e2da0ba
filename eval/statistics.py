"""Bootstrap intervals, exact sign tests, and a correction for asking many times.

Documents are drawn, not questions: questions about one document are not independent. For trials
that are, there is Wilson's interval of a share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
RESAMPLES = 4000

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with the bounds of its 95 % interval, by bootstrap unless said otherwise."""

    mean: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        return {"mean": self.mean, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Bootstrap:
    """Resamples of documents, drawn once, so that all intervals made of them are comparable.

    Percentiles of a bootstrap lie too close where documents are few: of 8, they cover 86 % instead
    of 95. They are taken further out, as far as Student's t lies outside the normal distribution,
    which gives 92 % (expanded percentiles: Hesterberg 2015, "What teachers should know about the
    bootstrap").
    """

    members: NDArray[np.intp]
    """The number of each question's document, of shape (questions,)."""
    times: Floats
    """How often each document was drawn, of shape (draws, documents)."""
    seed: int

    @classmethod
    def draw(cls, clusters: Sequence[Hashable], seed: int = 0) -> Bootstrap:
        """Draw documents with replacement, as many as there are.

        Args:
            clusters: The document of each question, at least one; drawn as a whole. Where all are
                the same, questions are drawn: nothing can be said of other documents.
            seed: Equal seeds draw equal documents.
        """
        if not clusters:
            raise ValueError("There must be at least one score to draw from, got none.")
        if len(set(clusters)) == 1:
            clusters = range(len(clusters))
        numbers = {cluster: n for n, cluster in enumerate(dict.fromkeys(clusters))}
        count = len(numbers)
        rng = np.random.default_rng(seed)
        times = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
        members = np.array([numbers[cluster] for cluster in clusters])
        return cls(members, times.astype(np.float64), seed)

    def among(self, questions: Sequence[int]) -> Bootstrap:
        """Return the same draws for some of the questions, at least one, by their numbers."""
        kept, members = np.unique(self.members[questions], return_inverse=True)
        if len(kept) == 1:
            return Bootstrap.draw([0] * len(questions), self.seed)
        return Bootstrap(members, self.times[:, kept], self.seed)

    def intervals(self, values: Floats) -> list[Interval | None]:
        """Return the mean of each column.

        Args:
            values: Shape (questions, columns); NaN where there is no score, which is left out. Of a
                column with scores of a single document, questions are drawn.

        Returns:
            One for each column; `None` where it has no score at all.
        """
        known = np.isfinite(values)
        estimates, draws, counts = self._means(values, known)
        found: list[Interval | None] = []
        for n, (estimate, clusters) in enumerate(zip(estimates, counts, strict=True)):
            rows = np.flatnonzero(known[:, n])
            if clusters == 1 and len(rows) > 1:
                found += self.among(rows.tolist()).intervals(values[rows, n : n + 1])
                continue
            found.append(_interval(estimate, draws[:, n], clusters) if clusters else None)
        return found

    def interval(self, statistic: Callable[[Floats], Floats], values: Floats) -> Interval | None:
        """Return a statistic of the means of all columns.

        Args:
            statistic: From means of shape (draws, columns) to shape (draws,). Draws in which it is
                not finite are left out.
            values: Shape (questions, columns), without NaN.

        Returns:
            `None` where the statistic is not finite on the questions themselves.
        """
        estimates, draws, counts = self._means(values, np.ones(values.shape, bool))
        with np.errstate(divide="ignore", invalid="ignore"):
            estimate, every = statistic(estimates[None, :])[0], statistic(draws)
        return _interval(estimate, every, counts[0]) if np.isfinite(estimate) else None

    def _means(self, values: Floats, known: NDArray[np.bool_]) -> tuple[Floats, Floats, list[int]]:
        """Return means (columns,), drawn means (draws, columns), and clusters of each column."""
        if len(values) != len(self.members):
            raise ValueError(
                f"Every score needs its cluster: got {len(values)} scores and "
                f"{len(self.members)} clusters."
            )
        kinds, column_kinds = np.unique(known, axis=1, return_inverse=True)
        sums = self._per_cluster(np.where(known, values, 0.0))
        sizes = self._per_cluster(kinds.astype(np.float64))
        with np.errstate(divide="ignore", invalid="ignore"):
            means = sums.sum(0) / sizes.sum(0)[column_kinds]
            drawn = (self.times @ sums) / (self.times @ sizes)[:, column_kinds]
        return means, drawn, np.count_nonzero(sizes, axis=0)[column_kinds].tolist()

    def _per_cluster(self, values: Floats) -> Floats:
        """Return sums of shape (clusters, columns)."""
        order = np.argsort(self.members, kind="stable")
        starts = np.searchsorted(self.members[order], np.arange(self.times.shape[1]))
        sums: Floats = np.add.reduceat(values[order], starts, axis=0)
        return sums


def mean_interval(values: Sequence[float], clusters: Sequence[Hashable], seed: int = 0) -> Interval:
    """Return the mean of scores, at least one, each with the document it is drawn with."""
    return _certain(Bootstrap.draw(clusters, seed).intervals(_columns(values))[0])


def difference_interval(
    values: Sequence[float], others: Sequence[float], clusters: Sequence[Hashable], seed: int = 0
) -> Interval:
    """Return the mean of `values - others`, paired: both are scores of the same questions."""
    first, second = _columns(values, others).T
    return _certain(Bootstrap.draw(clusters, seed).intervals((first - second)[:, None])[0])


def ratio_interval(
    values: Sequence[float], others: Sequence[float], clusters: Sequence[Hashable], seed: int = 0
) -> Interval | None:
    """Return mean of `values` / mean of `others`, paired; `None` where `others` has mean 0.

    Draws in which `others` has mean 0 are left out.
    """
    drawn = Bootstrap.draw(clusters, seed)
    return drawn.interval(lambda means: means[:, 0] / means[:, 1], _columns(values, others))


def wilson(successes: int, trials: int) -> Interval:
    """Return the share of independent trials that succeeded, with its interval after Wilson.

    It holds its level for few trials too, and for shares of 0 and 1, where a bootstrap has no
    width at all.

    Args:
        successes: At most `trials`.
        trials: At least 1.
    """
    from scipy.special import ndtri

    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"{successes} of {trials} trials cannot have succeeded.")
    z = float(ndtri((1 + LEVEL) / 2))
    share, spread = successes / trials, z * z / trials
    centre = (share + spread / 2) / (1 + spread)
    reach = math.sqrt(share * (1 - share) * spread + spread**2 / 4) / (1 + spread)
    return Interval(
        mean=share,
        low=0.0 if successes == 0 else centre - reach,
        high=1.0 if successes == trials else centre + reach,
    )


def sign_test(wins: int, losses: int) -> float:
    """Return the exact two-sided p-value of wins and losses being equally likely; ties are out.

    Of answers that are right or wrong, this is McNemar's exact test. Questions count as
    independent of each other.
    """
    from scipy.special import bdtr

    if wins + losses == 0:
        return 1.0
    return min(1.0, 2 * float(bdtr(min(wins, losses), wins + losses, 0.5)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number, after Holm; in the order given."""
    adjusted = [0.0] * len(p_values)
    least = 0.0
    for rank, n in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = max(least, min(1.0, p_values[n] * (len(p_values) - rank)))
        adjusted[n] = least
    return adjusted


def _interval(estimate: float, draws: Floats, clusters: int) -> Interval:
    tail = _tail(clusters)
    low, high = np.quantile(draws[np.isfinite(draws)], [tail, 1 - tail])
    return Interval(mean=float(estimate), low=float(low), high=float(high))


def _tail(clusters: int) -> float:
    """Return the share of draws to leave out at either end."""
    from scipy.special import ndtr, stdtrit

    tail = (1 - LEVEL) / 2
    if clusters == 1:
        return tail
    t = float(stdtrit(clusters - 1, tail))
    return float(ndtr(t * math.sqrt(clusters / (clusters - 1))))


def _columns(*series: Sequence[float]) -> Floats:
    """Return scores side by side, of shape (questions, series)."""
    return np.column_stack([np.asarray(values, np.float64) for values in series])


def _certain(interval: Interval | None) -> Interval:
    if interval is None:
        raise ValueError("None of the scores is a number.")
    return interval
