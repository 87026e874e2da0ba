"""Find evidence: hybrid search restricted to what is live."""

from __future__ import annotations

from collections.abc import Sequence

from hybridqa.protocols import ChunkIndex, Embedder, SearchFilter
from hybridqa.stores.catalog import Catalog
from hybridqa.types import Hit


class Retriever:
    """Searches the index; chunks of revisions that are not (or no longer) live are dropped."""

    def __init__(self, embedder: Embedder, index: ChunkIndex, catalog: Catalog) -> None:
        self._embedder, self._index, self._catalog = embedder, index, catalog

    def search(
        self, question: str, limit: int, document_ids: Sequence[str] | None = None
    ) -> list[Hit]:
        """Return at most `limit` live hits, best first.

        Args:
            question: In plain words.
            limit: Most hits to return.
            document_ids: Search only these; `None` searches all.
        """
        vector = self._embedder.embed([question])[0]
        where = SearchFilter(document_ids=document_ids)
        # While a document is being replaced, or after a crash, chunks that are not live are in
        # the index and may crowd out live ones: search ever wider until there are enough.
        width = limit
        while True:
            hits = self._index.search(question, vector, width, where)
            live = self._catalog.live_hashes({hit.chunk.document_id for hit in hits})
            alive = [h for h in hits if live.get(h.chunk.document_id) == h.chunk.content_hash]
            if len(alive) >= limit or len(hits) < width:
                return alive[:limit]
            width *= 4
