"""A vector store that keeps a hybridqa home in step with an app's own one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryResult,
)

from hybridqa.errors import SourceError
from hybridqa.llamaindex.events import IngestEvent, dispatcher
from hybridqa.llamaindex.nodes import document_id_of
from hybridqa.llamaindex.pieces import added, read_pieces, without
from hybridqa.types import Document
from hybridqa.wiring import HybridQA


class HybridVectorStore(BasePydanticVectorStore):
    """Put around the app's vector store, so that what a pipeline does to it happens to ours too.

    The app's store keeps its nodes with their ids, metadata and embeddings, and answers `query`.
    The home gets, per `ref_doc_id`, one document put together from its nodes (see `pieces`): it is
    cut, embedded and internalized as every other document. Deleting deletes both, adapters
    included; no answer comes from an adapter of a deleted text.

    A pipeline hands over nodes with embeddings only: it needs an embedding model at its end. Where
    a text changed, or only its metadata (LlamaIndex hashes both), a pipeline deletes, then adds: in
    between nothing answers from it, and its adapter is made anew. A document whose nodes come by
    several calls of `add` is internalized at each.
    """

    stores_text: bool = True
    _inner: BasePydanticVectorStore = PrivateAttr()
    _qa: HybridQA = PrivateAttr()
    _writing: Any = PrivateAttr(default_factory=threading.Lock)

    def __init__(self, inner: BasePydanticVectorStore, qa: HybridQA) -> None:
        """Join the two.

        Args:
            inner: The app's store.
            qa: An open home; its other documents are left alone.
        """
        super().__init__(stores_text=inner.stores_text, is_embedding_query=inner.is_embedding_query)
        self._inner, self._qa = inner, qa

    @classmethod
    def class_name(cls) -> str:
        return "HybridVectorStore"

    @property
    def client(self) -> Any:
        return self._inner.client

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Add nodes to the app's store and their documents to the home.

        The home goes first: if it fails, a pipeline that is run again finds nothing half-done.

        Raises:
            SourceError: A document of that id came into the home by another way.
            HybridQAError: As for `HybridQA.ingest`.
        """
        self._take_in(nodes)
        return self._inner.add(list(nodes), **kwargs)

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        await asyncio.to_thread(self._take_in, nodes)
        return await self._inner.async_add(list(nodes), **kwargs)

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Delete a document's nodes, its text and its adapters; an unknown one is no error."""
        self._drop(ref_doc_id)
        self._inner.delete(ref_doc_id, **delete_kwargs)

    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        await asyncio.to_thread(self._drop, ref_doc_id)
        await self._inner.adelete(ref_doc_id, **delete_kwargs)

    def delete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **delete_kwargs: Any,
    ) -> None:
        """Delete nodes by id or by what `get_nodes` of the app's store finds."""
        with self._writing:
            gone = set(node_ids or [])
            if filters is not None:
                gone = {node.node_id for node in self._inner.get_nodes(node_ids, filters)}
            for document in self._documents():
                if not gone.isdisjoint(piece.node_id for piece in read_pieces(document)):
                    rest = without(document, gone)
                    if rest is None:
                        self._qa.delete(document.id)
                    else:
                        self._ingest(rest)
            self._inner.delete_nodes(node_ids, filters, **delete_kwargs)

    def clear(self) -> None:
        """Delete all nodes, and all documents that came through a store like this."""
        with self._writing:
            for document in self._documents():
                self._qa.delete(document.id)
            self._inner.clear()

    def get_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        return self._inner.get_nodes(node_ids, filters)

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Ask the app's store. Whoever wants our hybrid search takes a `HybridRetriever`."""
        return self._inner.query(query, **kwargs)

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        return await self._inner.aquery(query, **kwargs)

    def persist(self, persist_path: str, fs: Any = None) -> None:
        """Persist the app's store; the home is always durable."""
        self._inner.persist(persist_path, fs)

    def _take_in(self, nodes: Sequence[BaseNode]) -> None:
        grouped: dict[str, list[BaseNode]] = {}
        for node in nodes:
            grouped.setdefault(document_id_of(node), []).append(node)
        with self._writing:
            for document_id, group in grouped.items():
                if document := added(document_id, self._former(document_id), group):
                    self._ingest(document)

    def _drop(self, document_id: str) -> None:
        with self._writing:
            record = self._qa.catalog.find(document_id)
            if record is not None and read_pieces(record.document):
                self._qa.delete(document_id)

    def _documents(self) -> list[Document]:
        found = [record.document for record in self._qa.catalog.list()]
        return [document for document in found if read_pieces(document)]

    def _former(self, document_id: str) -> Document | None:
        record = self._qa.catalog.find(document_id)
        if record is None:
            return None
        if not read_pieces(record.document):
            raise SourceError(
                f"The home has a document `{document_id}` already, from "
                f"`{record.document.source}`. Give the nodes' document another id, or delete that "
                "one first."
            )
        return record.document

    def _ingest(self, document: Document) -> None:
        ingested = self._qa.ingest(document)
        dispatcher.event(
            IngestEvent(
                document_id=document.id,
                status=ingested.status,
                adapter_id=ingested.adapter.id if ingested.adapter else None,
                warning=ingested.warning,
            )
        )
