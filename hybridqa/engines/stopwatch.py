"""Add up the time that stages take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Runs from its creation; stages may repeat."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._spent_s: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time that the block takes to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._spent_s[name] = self._spent_s.get(name, 0.0) + time.perf_counter() - start

    def note(self, name: str, seconds: float) -> None:
        """Set a stage's time."""
        self._spent_s[name] = seconds

    @property
    def elapsed_s(self) -> float:
        return time.perf_counter() - self._began

    def timings_ms(self) -> dict[str, float]:
        """Return all stages and `total`, in milliseconds."""
        spent = {**self._spent_s, "total": self.elapsed_s}
        return {name: round(seconds * 1000, 3) for name, seconds in spent.items()}
