"""The one seam to RAGAS 0.4: its modern metrics, and our embedder in the shape it expects.

RAGAS takes seconds to import and may be absent, so it is imported on first use. Its language models
and embeddings are recognized by abstract classes; ours are registered as such, not derived.
"""

from __future__ import annotations

import asyncio
import math
import os
import warnings
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hybridqa.errors import InputError
from hybridqa.protocols import Embedder

T = TypeVar("T")

_BATCH = 256
"""Texts embedded at once."""


@cache
def collections() -> Any:
    """Import `ragas.metrics.collections`, with its usage tracking off.

    Raises:
        InputError: RAGAS is not installed, or something it needs.
    """
    os.environ["RAGAS_DO_NOT_TRACK"] = "true"  # read once, when it first would report
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it imports in turn
            import ragas.metrics.collections as found
            import rapidfuzz  # noqa: F401  # which RAGAS needs, but does not install
            from ragas.embeddings.base import BaseRagasEmbedding
    except ImportError as exc:
        raise InputError(
            f"RAGAS is not installed ({exc}), and the metrics asked for need it. Install it with "
            "`pip install 'hybridqa[eval]'`, or leave out string_similarity, semantic_similarity "
            "and all metrics with a judge."
        ) from exc
    BaseRagasEmbedding.register(Embeddings)
    return found


class Embeddings:
    """An `Embedder` as RAGAS embeddings; each text is embedded once."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._known: dict[str, NDArray[np.float32]] = {}

    def learn(self, texts: Sequence[str], done: Callable[[int, int], None]) -> None:
        """Embed texts in batches, ahead of their use.

        Args:
            texts: To embed.
            done: Called with how many are embedded, of how many.
        """
        new = sorted({*texts} - self._known.keys(), key=len)  # little padding in a batch
        for at in range(0, len(new), _BATCH):
            done(at, len(new))
            batch = new[at : at + _BATCH]
            self._known |= zip(batch, self._embedder.embed(batch), strict=True)

    def embed_text(self, text: str, **options: Any) -> NDArray[np.float32]:
        """Return a vector of shape (dimension,)."""
        if text not in self._known:
            self._known[text] = self._embedder.embed([text])[0]
        return self._known[text]

    async def aembed_text(self, text: str, **options: Any) -> NDArray[np.float32]:
        return self.embed_text(text)

    def embed_texts(self, texts: Sequence[str], **options: Any) -> list[NDArray[np.float32]]:
        return [self.embed_text(text) for text in texts]

    async def aembed_texts(self, texts: Sequence[str], **options: Any) -> list[NDArray[np.float32]]:
        return self.embed_texts(texts)


def string_similarities(pairs: Sequence[tuple[str, str]]) -> list[float]:
    """Return how alike answer and gold are in letters, in [0, 1]."""
    metric = collections().NonLLMStringSimilarity()
    return _score_pairs(metric, pairs)


def semantic_similarities(
    pairs: Sequence[tuple[str, str]], embedder: Embedder, done: Callable[[int, int], None]
) -> list[float]:
    """Return how alike answer and gold are in meaning, in [0, 1].

    Args:
        pairs: (answer, gold), neither empty.
        embedder: Gives the vectors.
        done: Called with how many texts are embedded, of how many.
    """
    ragas = collections()
    embeddings = Embeddings(embedder)
    embeddings.learn([text for pair in pairs for text in pair], done)
    return _score_pairs(ragas.SemanticSimilarity(embeddings=embeddings), pairs)


def _score_pairs(metric: Any, pairs: Sequence[tuple[str, str]]) -> list[float]:
    async def all_in_turn() -> list[float]:
        return [
            within_bounds((await metric.ascore(reference=gold, response=answer)).value)
            for answer, gold in pairs
        ]

    return run_async(all_in_turn())


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, in a thread of its own where this one runs an event loop: in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def within_bounds(value: float) -> float:
    """Return a score in [0, 1] to 6 places: RAGAS lets cosines be negative and 1 be 1 - 1e-10.

    Raises:
        ValueError: It is not a number, or above 1 by more than that.
    """
    if math.isnan(value) or value > 1 + 1e-6:
        raise ValueError(f"the score is {value}, not a number in [0, 1]")
    return round(min(1.0, max(0.0, float(value))), 6)
