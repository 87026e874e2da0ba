"""What both chunk indexes store and how they rank, so that they find alike.

A point is one chunk: its dense vector, its BM25 vector (computed here, not by the engine or by an
inference service), and a payload that holds the text and what filters read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Protocol, TypeVar
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray
from qdrant_edge import Bm25, Bm25Config

from hybridqa.errors import InputError, StoreError
from hybridqa.protocols import Embedder, IndexedChunk, SearchFilter
from hybridqa.types import Chunk, Hit

T = TypeVar("T")

DENSE = "dense"
SPARSE = "bm25"
TENANT = "tenant"
DOCUMENT_ID = "document_id"
CONTENT_HASH = "content_hash"
MODIFIED_AT = "modified_at"

EVERYTHING = SearchFilter()

RRF_K = 60
"""Damps the weight of the first ranks: a fused score is the sum of 1 / (RRF_K + rank), with
ranks counted from 0."""
BATCH = 256
"""Points per write."""
PAGE = 1000
"""Points per read when all are visited."""

_FORMAT_VERSION = 1
"""Raise it with any change of payload, point ids, vector names or BM25 settings."""
_NAMESPACE = UUID("6d0f1c9e-5f0b-5b0e-9d53-8c1f4d1b7a2e")
_ESCAPED = "\0json:"
_BM25 = Bm25(Bm25Config(avg_len=70, ascii_folding=True))
"""70 words remain of a usual chunk without its stop words. The engine's multilingual tokenizer
would split Chinese and Japanese into words, but it drops numbers."""
_UNSPACED = re.compile("([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])")
"""Characters of scripts without spaces: each becomes a word of its own."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What an index was built with; stored beside the points."""

    embedder: str
    """The embedder's fingerprint."""
    dimension: int
    format_version: int = _FORMAT_VERSION

    @classmethod
    def of(cls, embedder: Embedder) -> Manifest:
        return cls(embedder=embedder.fingerprint, dimension=embedder.dimension)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def check(self, found: Mapping[str, Any], where: str) -> None:
        """Refuse an index that was built with something else.

        Raises:
            StoreError: Names `where`, the difference and the remedy.
        """
        version = found.get("format_version")
        if version != self.format_version:
            raise StoreError(
                f"{where} has format version {version!r}, but this hybridqa reads "
                f"{self.format_version}. Use the hybridqa version that wrote it, or ingest the "
                "documents again into a new home or collection."
            )
        built = (found.get("embedder"), found.get("dimension"))
        if built != (self.embedder, self.dimension):
            raise StoreError(
                f"{where} was built with the embedder `{str(built[0])[:12]}` (dimension "
                f"{built[1]}), but the configured one is `{self.embedder[:12]}` (dimension "
                f"{self.dimension}). Set `index.embedder` to the model it was built with, or "
                "ingest the documents again into a new home or collection."
            )


def point_id(tenant: str, chunk: Chunk) -> UUID:
    """Return the same id for the same tenant, document revision and start."""
    key = [tenant, chunk.document_id, chunk.content_hash, chunk.start]
    return uuid5(_NAMESPACE, json.dumps(key))


def to_payload(tenant: str, item: IndexedChunk) -> dict[str, Any]:
    chunk = item.chunk
    payload: dict[str, Any] = {
        TENANT: escape(tenant),
        DOCUMENT_ID: escape(chunk.document_id),
        CONTENT_HASH: chunk.content_hash,
        "start": chunk.start,
        "end": chunk.end,
        "text": escape(chunk.text),
    }
    if item.modified_at is not None:
        payload[MODIFIED_AT] = utc(item.modified_at).isoformat()
    return payload


def escape(text: str) -> str:
    """Return `text` as valid UTF-8: lone surrogates (odd file names) are escaped, losslessly."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return _ESCAPED + json.dumps(text)
    return _ESCAPED + json.dumps(text) if text.startswith(_ESCAPED) else text


def unescape(text: str) -> str:
    return str(json.loads(text[len(_ESCAPED) :])) if text.startswith(_ESCAPED) else text


def utc(time: datetime) -> datetime:
    """Return the time in UTC.

    Raises:
        InputError: The time has no timezone.
    """
    if time.tzinfo is None:
        raise InputError(
            f"The time `{time.isoformat()}` has no timezone. Give one, e.g. "
            f"`{time.isoformat()}+00:00`."
        )
    return time.astimezone(UTC)


def chunk_words(text: str) -> tuple[list[int], list[float]]:
    """Return the BM25 vector of a chunk as (indices, weights); empty without words."""
    vector = _BM25.embed_document(_spaced(text))
    return vector.indices, vector.values


def query_words(text: str) -> tuple[list[int], list[float]]:
    """Return the BM25 vector of a question as (indices, weights); empty without words."""
    vector = _BM25.embed_query(_spaced(text))
    return vector.indices, vector.values


def _spaced(text: str) -> str:
    return _UNSPACED.sub(r" \1 ", text.encode("utf-8", errors="replace").decode("utf-8"))


def candidates(limit: int) -> int:
    """Return how many chunks each of the two searches hands to the fusion."""
    return max(4 * limit, 20)


class Found(Protocol):
    """A fused candidate: both engines' scored points look so."""

    @property
    def score(self) -> float: ...
    @property
    def payload(self) -> Any: ...
    @property
    def vector(self) -> Any: ...


def ranked(found: Sequence[Found], query: NDArray[np.float32], limit: int) -> list[Hit]:
    """Return the best hits in a reproducible order.

    RRF gives many equal scores, and the engine orders those at random: so it must be asked for
    everything it fused, and the cut is made here.

    Args:
        found: All fused candidates, with payload and dense vector.
        query: Unit vector of shape (dimension,).
        limit: Hits to keep, at least 1.
    """
    scores = sorted((point.score for point in found), reverse=True)[:limit]
    if not scores:
        return []
    # Reading a payload or vector copies it out of the engine: not for those that cannot win.
    rows = [
        (point.score, _chunk(point.payload), point.vector[DENSE])
        for point in found
        if point.score >= scores[-1]
    ]
    rows.sort(key=lambda row: (-row[0], row[1].document_id, row[1].start, row[1].content_hash))
    del rows[limit:]
    cosines = np.asarray([vector for _, _, vector in rows], dtype=np.float32) @ query
    return [
        Hit(chunk=chunk, score=score, similarity=min(1.0, max(-1.0, float(cosine))))
        for (score, chunk, _), cosine in zip(rows, cosines, strict=True)
    ]


def _chunk(payload: Mapping[str, Any]) -> Chunk:
    return Chunk(
        document_id=unescape(payload[DOCUMENT_ID]),
        content_hash=payload[CONTENT_HASH],
        start=payload["start"],
        end=payload["end"],
        text=unescape(payload["text"]),
    )


def revision(payload: Mapping[str, Any]) -> tuple[str, str]:
    return unescape(payload[DOCUMENT_ID]), payload[CONTENT_HASH]


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
