"""Batches made by other processes while one is learned from."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_WAITING = 2
"""Batches that each process has made or is to make."""

_make: Callable[[int], Any]
"""In a process that makes batches."""


class Ahead(Generic[T]):
    """Batches by their number; those that follow the last one asked for are made meanwhile."""

    def __init__(self, make: Callable[[int], T], workers: int) -> None:
        """Keep the arguments.

        Args:
            make: Returns a batch, a function of its number alone, in main memory; must not use a
                GPU, as it runs in forks of this process.
            workers: Processes; with none each batch is made when it is asked for.
        """
        self._make, self._workers = make, workers
        self._pool: ProcessPoolExecutor | None = None
        self._coming: dict[int, Future[T]] = {}

    def __getitem__(self, number: int) -> T:
        if not self._workers:
            return self._make(number)
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self._workers, get_context("fork"), initializer=_keep, initargs=(self._make,)
            )
        wanted = range(number, number + _WAITING * self._workers)
        for other in self._coming.keys() - set(wanted):
            self._coming.pop(other).cancel()
        for each in wanted:
            if each not in self._coming:
                self._coming[each] = self._pool.submit(_made, each)
        return self._coming.pop(number).result()


def _keep(make: Callable[[int], Any]) -> None:
    global _make
    _make = make


def _made(number: int) -> Any:
    return _make(number)
