"""What searching costs beyond the engine, and how large an adapter is beside a KV cache."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hybridqa.eval.machine import cache_bytes_per_token
from hybridqa.eval.speed.pairs import Timings, spread
from hybridqa.eval.speed.report import SpeedRow
from hybridqa.eval.speed.workbench import Workbench
from hybridqa.protocols import IndexedChunk, SearchFilter
from hybridqa.stores.edge_index import EdgeIndex
from hybridqa.stores.places import tensors_of
from hybridqa.types import Adapter, Chunk

_WORDS = 20_000
_WORDS_PER_CHUNK = 110
_CHUNKS_PER_DOCUMENT = 20
_TOPICS = 500
_TEXTS = 2000
_QUERIES = 100
_CONTEXT_TOKENS = 32 * 1024


def search_overhead(bench: Workbench) -> SpeedRow:
    """Search an index of made-up chunks, and let the engine alone run the same request."""
    count = 5_000 if bench.quick else 50_000
    dimension = bench.qa.embedder.dimension
    chunks = list(_made_up(count, dimension, bench.seed))
    where = SearchFilter(modified_after=datetime(2024, 6, 1, tzinfo=UTC))
    limit = bench.qa.config.answer.hits
    ours: list[float] = []
    engine: list[float] = []
    with tempfile.TemporaryDirectory(prefix="hybridqa-speed-") as folder:
        index = EdgeIndex(Path(folder) / "index", bench.qa.embedder)
        try:
            bench.progress(f"indexing {count:,} chunks", 0, 1)
            index.add(chunks)
            for n, chunk in enumerate([*chunks[:5], *chunks[:: count // _QUERIES]]):
                words = " ".join(chunk.chunk.text.split()[:8])
                request = index.request(words, chunk.vector, limit, where)
                both: list[tuple[list[float], Callable[[], object]]] = [
                    (engine, partial(index.run, request)),
                    (ours, partial(index.search, words, chunk.vector, limit, where)),
                ]
                for seconds, search in both[:: 1 if n % 2 else -1]:  # in turn the first, as the
                    began = time.perf_counter()  # second of two finds the data in the cache
                    search()
                    if n >= 5:  # warm
                        seconds.append(time.perf_counter() - began)
        finally:
            index.close()
    timings = Timings({"ours": ours, "engine": engine})
    return SpeedRow(
        name="search-overhead",
        description=f"a hybrid, filtered search over {count:,} chunks, relative to the engine's "
        "own query time",
        **spread(timings.ratios("ours", "engine")),
        unit="x",
        target=1.5,
        at_least=False,
        details={
            "search_ms": timings.median_ms("ours"),
            "engine_ms": timings.median_ms("engine"),
            "queries": len(ours),
            "dimension": dimension,
            "filter": "modified_after, half of the documents",
        },
    )


def adapter_size(bench: Workbench) -> SpeedRow:
    """Compare the largest adapter that the config allows with the KV cache of 32K tokens."""
    made, settings = bench.internalized, bench.qa.config.internalize
    real = adapter_bytes(made.adapter)
    largest = real / made.rank * settings.max_rank
    cache_per_token = cache_bytes_per_token(bench.qa.base)
    cache = cache_per_token * _CONTEXT_TOKENS
    ratio = cache / largest
    return SpeedRow(
        name="adapter-size",
        description="the KV cache of a document of 32K tokens, relative to the largest adapter "
        f"(rank {settings.max_rank})",
        measured=ratio,
        low=ratio,
        high=ratio,
        unit="x",
        target=100.0,
        at_least=True,
        details={
            "adapter_bytes": round(largest),
            "kv_cache_bytes": round(cache),
            "kv_cache_bytes_per_token": cache_per_token,
            "kv_cache_dtype": str(bench.qa.base.dtype).removeprefix("torch."),
            "rank_per_chunk": settings.rank,
            "bytes_per_rank": round(real / made.rank),
            f"adapter_bytes_of_{len(bench.chunks)}_chunks": real,
            # These grow with the text, unlike the factors.
            "bytes_per_place": _bytes_per_place(made.adapter),
        },
    )


def adapter_bytes(adapter: Adapter) -> int:
    """Return the bytes of all its factors."""
    factors = [f for layer in adapter.layers.values() for f in (layer.down, layer.up)]
    return sum(factor.numel() * factor.element_size() for factor in factors)


def _bytes_per_place(adapter: Adapter) -> float:
    places = adapter.places
    if places is None or not len(places.scales):
        return 0.0
    return sum(tensor.nbytes for tensor in tensors_of(adapter).values()) / len(places.scales)


def _made_up(count: int, dimension: int, seed: int) -> Iterator[IndexedChunk]:
    """Yield chunks on random topics, their words as unevenly frequent as those of a language."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(_TOPICS, dimension))
    rarity = 1 / (np.arange(_WORDS) + 10)
    words = np.array([f"word{n}" for n in range(_WORDS)])
    draws = rng.choice(words, (min(count, _TEXTS), _WORDS_PER_CHUNK), p=rarity / rarity.sum())
    texts = [" ".join(draw) for draw in draws]
    for n in range(count):
        document, place = divmod(n, _CHUNKS_PER_DOCUMENT)
        text = texts[n % len(texts)]
        yield IndexedChunk(
            chunk=Chunk(
                document_id=f"documents/{document}.md",
                content_hash=f"{document:064x}",
                start=place * 1000,
                end=place * 1000 + len(text),
                text=text,
            ),
            vector=_unit(0.8 * centres[rng.integers(_TOPICS)] + rng.normal(size=dimension)),
            modified_at=datetime(2024, document % 12 + 1, 1, tzinfo=UTC),
        )


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float32]:
    return (vector / np.linalg.norm(vector)).astype(np.float32)
