"""Chunk index on a Qdrant server or cluster: one collection that all tenants share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray
from qdrant_client import QdrantClient
from qdrant_client import models as qm
from qdrant_client.http.exceptions import ApiException, UnexpectedResponse

from hybridqa.errors import IndexUnavailableError, StoreError
from hybridqa.protocols import Embedder, IndexedChunk, SearchFilter
from hybridqa.stores import points
from hybridqa.types import Hit

P = ParamSpec("P")
R = TypeVar("R")

_PAYLOAD_INDEXES: dict[str, qm.PayloadSchemaType | qm.KeywordIndexParams] = {
    points.TENANT: qm.KeywordIndexParams(type=qm.KeywordIndexType.KEYWORD, is_tenant=True),
    points.DOCUMENT_ID: qm.PayloadSchemaType.KEYWORD,
    points.MODIFIED_AT: qm.PayloadSchemaType.DATETIME,
}


class ServerIndex:
    """A `ChunkIndex` in a collection of a Qdrant server; any number of processes may share it."""

    def __init__(
        self,
        client: QdrantClient,
        embedder: Embedder,
        collection: str = "hybridqa",
        tenant: str = "default",
        url: str = "the given client",
    ) -> None:
        """Use the collection, or create it.

        Args:
            client: Stays the caller's: `close` leaves it open.
            embedder: Only its dimension and fingerprint are read.
            collection: Shared by all tenants.
            tenant: Whose chunks are seen and written.
            url: Named in errors.

        Raises:
            IndexUnavailableError: The server does not answer.
            StoreError: The collection was built with another embedder or by another program.
        """
        self._client, self._collection, self._url = client, collection, url
        self._tenant, self._raw_tenant = points.escape(tenant), tenant
        self._owns_client = False
        manifest = points.Manifest.of(embedder)
        if not self._call(client.collection_exists, collection):
            self._create(manifest)
        self._check(manifest)

    @classmethod
    def connect(
        cls,
        url: str,
        embedder: Embedder,
        *,
        api_key: str | None = None,
        collection: str = "hybridqa",
        tenant: str = "default",
        timeout_s: int = 30,
    ) -> ServerIndex:
        """Connect to a server by URL; `close` ends the connection.

        Raises:
            IndexUnavailableError: The server does not answer.
            StoreError: The URL or key is wrong, or the collection is not ours.
        """
        try:
            # The version check would only warn where the first request raises.
            client = QdrantClient(
                url=url, api_key=api_key, timeout=timeout_s, check_compatibility=False
            )
        except ValueError as exc:
            raise StoreError(
                f"`{url}` is no Qdrant URL: {exc}. Set `index.url` to e.g. `http://host:6333`."
            ) from exc
        try:
            index = cls(client, embedder, collection, tenant, url=f"`{url}`")
        except BaseException:
            client.close()
            raise
        index._owns_client = True
        return index

    def add(self, chunks: Iterable[IndexedChunk]) -> None:
        for batch in points.batched(chunks, points.BATCH):
            self._call(
                self._client.upsert,
                self._collection,
                points=[self._point(item) for item in batch],
                wait=True,
            )

    def search(
        self,
        text: str,
        vector: NDArray[np.float32],
        limit: int,
        where: SearchFilter = points.EVERYTHING,
    ) -> list[Hit]:
        if limit < 1 or (where.document_ids is not None and not where.document_ids):
            return []
        depth = points.candidates(limit)
        restriction = self._filter(where)
        legs = [
            qm.Prefetch(query=vector.tolist(), using=points.DENSE, filter=restriction, limit=depth)
        ]
        indices, values = points.query_words(text)
        if indices:
            # Word rarity is counted among the tenant's own chunks: nothing leaks to others.
            corpus = qm.IdfCorpusParams(corpus=self._filter(points.EVERYTHING))
            legs.append(
                qm.Prefetch(
                    query=qm.SparseVector(indices=indices, values=values),
                    using=points.SPARSE,
                    filter=restriction,
                    limit=depth,
                    params=qm.SearchParams(idf=corpus),
                )
            )
        found = self._call(
            self._client.query_points,
            self._collection,
            prefetch=legs,
            query=qm.RrfQuery(rrf=qm.Rrf(k=points.RRF_K)),
            limit=depth * len(legs),
            with_payload=True,
            with_vectors=[points.DENSE],
        ).points
        return points.ranked(found, vector, limit)

    def remove(self, document_id: str, keep_hash: str | None = None) -> None:
        of_document = self._filter(SearchFilter(document_ids=[document_id]))
        if keep_hash is not None:
            kept = qm.FieldCondition(key=points.CONTENT_HASH, match=qm.MatchValue(value=keep_hash))
            of_document = qm.Filter(must=of_document.must, must_not=[kept])
        self._call(
            self._client.delete,
            self._collection,
            points_selector=qm.FilterSelector(filter=of_document),
            wait=True,
        )

    def count(self, document_id: str | None = None) -> int:
        where = SearchFilter(document_ids=None if document_id is None else [document_id])
        return self._call(
            self._client.count, self._collection, count_filter=self._filter(where), exact=True
        ).count

    def revisions(self) -> set[tuple[str, str]]:
        found: set[tuple[str, str]] = set()
        offset: Any = None
        while True:
            records, offset = self._call(
                self._client.scroll,
                self._collection,
                scroll_filter=self._filter(points.EVERYTHING),
                limit=points.PAGE,
                offset=offset,
                with_payload=[points.DOCUMENT_ID, points.CONTENT_HASH],
            )
            found.update(points.revision(record.payload or {}) for record in records)
            if offset is None:
                return found

    def close(self) -> None:
        """End the connection if `connect` made it; calling it again does nothing."""
        if self._owns_client:
            self._client.close()

    def _create(self, manifest: points.Manifest) -> None:
        try:
            self._call(
                self._client.create_collection,
                self._collection,
                vectors_config={
                    points.DENSE: qm.VectorParams(
                        size=manifest.dimension, distance=qm.Distance.COSINE
                    )
                },
                sparse_vectors_config={
                    points.SPARSE: qm.SparseVectorParams(modifier=qm.Modifier.IDF)
                },
                # Every search names its tenant: one graph a tenant, none across them.
                hnsw_config=qm.HnswConfigDiff(m=0, payload_m=16),
                metadata=manifest.as_dict(),
            )
        except StoreError as exc:
            cause = exc.__cause__
            if not (isinstance(cause, UnexpectedResponse) and cause.status_code == 409):
                raise  # 409: another process was faster

    def _check(self, manifest: points.Manifest) -> None:
        """Refuse a foreign collection; complete ours if its creation was cut short."""
        info = self._call(self._client.get_collection, self._collection)
        where = f"The collection `{self._collection}` at {self._url}"
        if not info.config.metadata:
            raise StoreError(
                f"{where} does not say what it was built with: another program made it, or the "
                "server is older than Qdrant 1.16. Set another `index.collection`, or update the "
                "server."
            )
        manifest.check(info.config.metadata, where)
        for field, schema in _PAYLOAD_INDEXES.items():
            if field not in info.payload_schema:
                self._call(
                    self._client.create_payload_index,
                    self._collection,
                    field_name=field,
                    field_schema=schema,
                    wait=True,
                )

    def _point(self, item: IndexedChunk) -> qm.PointStruct:
        indices, values = points.chunk_words(item.chunk.text)
        return qm.PointStruct(
            id=str(points.point_id(self._raw_tenant, item.chunk)),
            vector={
                points.DENSE: item.vector.tolist(),
                points.SPARSE: qm.SparseVector(indices=indices, values=values),
            },
            payload=points.to_payload(self._raw_tenant, item),
        )

    def _filter(self, where: SearchFilter) -> qm.Filter:
        must: list[qm.Condition] = [
            qm.FieldCondition(key=points.TENANT, match=qm.MatchValue(value=self._tenant))
        ]
        if where.document_ids is not None:
            ids = [points.escape(document_id) for document_id in where.document_ids]
            must.append(qm.FieldCondition(key=points.DOCUMENT_ID, match=qm.MatchAny(any=ids)))
        if where.modified_after is not None or where.modified_before is not None:
            after, before = where.modified_after, where.modified_before
            times = qm.DatetimeRange(
                gte=None if after is None else points.utc(after),
                lt=None if before is None else points.utc(before),
            )
            must.append(qm.FieldCondition(key=points.MODIFIED_AT, range=times))
        return qm.Filter(must=must)

    def _call(self, operation: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return operation(*args, **kwargs)
        except UnexpectedResponse as exc:
            raise self._refusal(exc) from exc
        except ApiException as exc:
            raise IndexUnavailableError(
                f"Qdrant at {self._url} does not answer: {exc}. Start it, or correct `index.url`; "
                "without a URL the index is kept in the home directory."
            ) from exc

    def _refusal(self, exc: UnexpectedResponse) -> StoreError:
        status = exc.status_code or 0
        if status in (401, 403):
            return StoreError(
                f"Qdrant at {self._url} refuses the API key (HTTP {status}). Put a key that may "
                "write into the environment variable that `index.api_key_env` names."
            )
        reason = exc.content.decode("utf-8", errors="replace")[:300]
        if status in (408, 429) or status >= 500:
            return IndexUnavailableError(
                f"Qdrant at {self._url} cannot serve the request now (HTTP {status}: {reason}). "
                "Try again; if it stays so, look at the server's log and disk."
            )
        return StoreError(
            f"Qdrant at {self._url} refuses the request for collection `{self._collection}` "
            f"(HTTP {status}: {reason}). Check `index.url`, `index.collection` and that the "
            "server is Qdrant 1.16 or later."
        )
