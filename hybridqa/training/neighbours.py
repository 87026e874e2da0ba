"""Which texts are about nearly the same: they share rare words."""

from __future__ import annotations

from collections.abc import Sequence

_AT_ONCE = 512


def nearest(texts: Sequence[str], count: int) -> list[list[int]]:
    """Return for each text the numbers of the most similar others by TF-IDF, nearest first.

    Args:
        texts: Any.
        count: Fewer come back where there are fewer others.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    if len(texts) < 2:
        return [[] for _ in texts]
    count = min(count, len(texts) - 1)
    vectors = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+").fit_transform(texts)
    found: list[list[int]] = []
    for start in range(0, len(texts), _AT_ONCE):
        similar = (vectors[start : start + _AT_ONCE] @ vectors.T).toarray()
        for n, row in enumerate(similar, start):
            row[n] = -1
            found.append([int(m) for m in row.argsort()[::-1][:count]])
    return found
