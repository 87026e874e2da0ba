"""Time things side by side: A B A B ..., so that a busy moment of the machine hits both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch

Call = Callable[[], object]


@dataclass(frozen=True)
class Timings:
    """Seconds of several calls, by name, one per round."""

    seconds: Mapping[str, Sequence[float]]

    def ratios(self, numerator: str, denominator: str) -> list[float]:
        """Return the ratio of each round."""
        pairs = zip(self.seconds[numerator], self.seconds[denominator], strict=True)
        return [over / under for over, under in pairs]

    def ratio(self, numerator: str, denominator: str) -> float:
        """Return the median ratio."""
        return statistics.median(self.ratios(numerator, denominator))

    def median_ms(self, name: str) -> float:
        return round(statistics.median(self.seconds[name]) * 1e3, 3)


def side_by_side(calls: Mapping[str, Call], repeats: int) -> Timings:
    """Time all calls in turn, one round to warm up and then `repeats` that count."""
    return told({name: partial(timed, call) for name, call in calls.items()}, repeats)


def told(calls: Mapping[str, Callable[[], float]], repeats: int) -> Timings:
    """Do the same with calls that tell their seconds themselves."""
    for call in calls.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            seconds[name].append(call())
    return Timings(seconds)


def timed(call: Call) -> float:
    """Return the seconds of one call, work that it left to a GPU included."""
    _settle()
    began = time.perf_counter()
    call()
    _settle()
    return time.perf_counter() - began


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, least and greatest, as `SpeedRow` names them."""
    return {"measured": statistics.median(values), "low": min(values), "high": max(values)}


def _settle() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
