"""Fakes that stand in for models: deterministic, fast, offline. For our tests and for yours."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(r"\w+")


class FakeEmbedder:
    """An `Embedder` of hashed bags of words: texts are similar as far as they share words."""

    def __init__(self, dimension: int = 64, fingerprint: str = "fake-bag-of-words") -> None:
        self._dimension, self._fingerprint = dimension, fingerprint

    @property
    def dimension(self) -> int:
        return self._dimension

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors of shape (len(texts), dimension), also of texts without words."""
        vectors = np.zeros((len(texts), self._dimension), dtype=np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            for word in _WORD.findall(text.lower()) or [""]:
                vector[zlib.crc32(word.encode("utf-8", "surrogatepass")) % self._dimension] += 1.0
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors
