"""What many threads ask for at the same time is computed in one batch."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from hybridqa.protocols import Embedder, Locator, Look
from hybridqa.types import Chunk, Place, Places

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")
R = TypeVar("R")


class Together(Generic[T, R]):
    """A function of many items, called by many threads: what waits is computed in one call.

    Nobody waits for company: whatever has come while one call was computed is the next one. Close
    it.
    """

    def __init__(self, name: str, compute: Callable[[Sequence[T]], Sequence[R]], most: int) -> None:
        """Start the thread that calls.

        Args:
            name: Of the thread.
            compute: Returns one result an item, in order.
            most: Items in a call.
        """
        self._compute, self._most = compute, most
        self._waiting: deque[tuple[T, Future[R]]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def __call__(self, items: Sequence[T]) -> list[R]:
        """Return one result an item, in order; what goes wrong with one of them is raised."""
        futures: list[Future[R]] = [Future() for _ in items]
        with self._changed:
            if self._closed:
                raise RuntimeError("It is closed.")
            self._waiting.extend(zip(items, futures, strict=True))
            self._changed.notify()
        return [future.result() for future in futures]

    def close(self) -> None:
        """Compute what waits, then stop."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._next():
            self._answer(batch)

    def _next(self) -> list[tuple[T, Future[R]]]:
        """Return what waits once there is something; nothing when there never will be."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            count = min(self._most, len(self._waiting))
            return [self._waiting.popleft() for _ in range(count)]

    def _answer(self, batch: Sequence[tuple[T, Future[R]]]) -> None:
        try:
            results = self._compute([item for item, _ in batch])
            answered = list(zip(batch, results, strict=True))
        except BaseException as exc:  # whatever it is, whoever waits must be told
            if len(batch) == 1:
                batch[0][1].set_exception(exc)
            else:
                for each in batch:  # one of them is wrong, and no fault of the others
                    self._answer([each])
        else:
            for (_, future), result in answered:
                future.set_result(result)


class BatchingEmbedder:
    """An `Embedder` for many threads. Close it."""

    def __init__(self, embedder: Embedder, most: int) -> None:
        """Start the thread.

        Args:
            embedder: Embeds.
            most: Questions in a batch.
        """
        self._embedder = embedder
        self._together = Together[str, "NDArray[np.float32]"](
            "embedder", lambda texts: list(embedder.embed(texts)), most
        )
        self.close = self._together.close

    @property
    def dimension(self) -> int:
        return self._embedder.dimension

    @property
    def fingerprint(self) -> str:
        return self._embedder.fingerprint

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors; one text is a question, more are a document's and go by themselves.

        See `protocols.Embedder`.
        """
        if len(texts) != 1:
            return self._embedder.embed(texts)
        return np.stack(self._together(texts))


class BatchingLocator:
    """A `Locator` for many threads. Close it."""

    def __init__(self, locator: Locator, most: int) -> None:
        """Start the thread.

        Args:
            locator: Keeps places and looks at them.
            most: Texts that are looked at in a batch.
        """
        self._locator = locator
        self._together = Together[Look, Sequence[Place]]("locator", locator.locate, most)
        self.close = self._together.close

    @property
    def fingerprint(self) -> str:
        return self._locator.fingerprint

    def keep(self, chunks: Sequence[Chunk]) -> Places:
        """Return the places of a document, by itself; see `protocols.Locator`."""
        return self._locator.keep(chunks)

    def locate(self, looks: Sequence[Look]) -> list[Sequence[Place]]:
        """Return where each is likeliest answered; see `protocols.Locator`."""
        return self._together(looks)
