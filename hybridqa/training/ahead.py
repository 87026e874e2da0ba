"""Batches made while another is learned from."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """Batches by their number; those that follow the last one asked for are made meanwhile.

    By a thread, which gets on while a GPU computes. Not by forks: after torch has computed on
    several cores they hang or crash.
    """

    def __init__(self, make: Callable[[int], T], count: int) -> None:
        """Keep the arguments.

        Args:
            make: Returns a batch, a function of its number alone; one thread calls it.
            count: Made ahead; with none each batch is made when it is asked for.
        """
        self._make, self._count = make, count
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batches") if count else None
        self._coming: dict[int, Future[T]] = {}

    def __getitem__(self, number: int) -> T:
        if self._thread is None:
            return self._make(number)
        wanted = range(number, number + 1 + self._count)
        for other in self._coming.keys() - set(wanted):
            self._coming.pop(other).cancel()
        for each in wanted:
            if each not in self._coming:
                self._coming[each] = self._thread.submit(self._make, each)
        return self._coming.pop(number).result()
