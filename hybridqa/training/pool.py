"""Batches whose passages are of about one length, so that little is padded."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from hybridqa.training.facts import invent
from hybridqa.training.passages import Passage

T = TypeVar("T")

_BATCHES = 16
"""That are drawn together."""


class Pool(Generic[T]):
    """Batches, each a function of its number and the seed alone."""

    def __init__(
        self,
        draw: Callable[[random.Random], T],
        length: Callable[[T], int],
        size: int,
        seed: int,
    ) -> None:
        """Keep the arguments.

        Args:
            draw: Returns a member of a batch.
            length: Of a member.
            size: Of a batch.
            seed: Of what is drawn.
        """
        self._draw, self._length, self._size, self._seed = draw, length, size, seed
        self._drawn: tuple[int, Sequence[Sequence[T]]] = (-1, ())

    def __getitem__(self, number: int) -> Sequence[T]:
        pool, at = divmod(number, _BATCHES)
        if self._drawn[0] != pool:
            rng, size = random.Random(f"{self._seed}/pool {pool}"), self._size
            drawn = sorted((self._draw(rng) for _ in range(size * _BATCHES)), key=self._length)
            batches = [drawn[n : n + size] for n in range(0, len(drawn), size)]
            rng.shuffle(batches)
            self._drawn = (pool, batches)
        return self._drawn[1][at]


def invented(rng: random.Random) -> Passage:
    """Return a passage of invented facts, which no model has read before."""
    text, questions = invent(rng)
    return Passage(text, [(question, [answer]) for question, answer in questions])
