"""Take documents in: chunk, embed, index, publish, then internalize.

A changed document is replaced at one instant, the catalog's commit: before it, questions see the
old text and its adapters; after it, the new text and none of them. Chunks of the other revision
may be in the index around that instant, but are never returned by a search.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from hybridqa.chunking import Chunker
from hybridqa.errors import (
    CorruptAdapterError,
    DocumentTooLongError,
    InternalizeError,
    SourceError,
)
from hybridqa.protocols import ChunkIndex, Embedder, IndexedChunk, Internalizer
from hybridqa.routing.document_signals import document_signals
from hybridqa.stores.adapters import AdapterStore
from hybridqa.stores.catalog import Catalog
from hybridqa.types import AdapterRecord, AdapterState, Chunk, Document, DocumentRecord


class IngestStatus(StrEnum):
    ADDED = "added"
    CHANGED = "changed"
    REINDEXED = "reindexed"
    """The text is the same, but the index had lost its chunks, or they are cut otherwise now."""
    UNCHANGED = "unchanged"


@dataclass(frozen=True, kw_only=True)
class Ingested:
    """What became of one document."""

    record: DocumentRecord
    status: IngestStatus
    adapter: AdapterRecord | None
    """The live adapter made for this revision, now or before."""
    internalized: bool
    """Whether that adapter was made now."""
    warning: str | None
    """Why there is no adapter, although one was wanted."""
    retired: int
    """Adapters of the former text that were taken out of use."""
    seconds: float


class Ingestor:
    """Writes documents into catalog, index and adapter store.

    One write at a time; but nobody waits for another's internalizing, which may take minutes.
    """

    def __init__(
        self,
        catalog: Catalog,
        index: ChunkIndex,
        adapters: AdapterStore,
        embedder: Embedder,
        chunker: Chunker,
        clock: Callable[[], datetime],
    ) -> None:
        self._catalog, self._index, self._adapters = catalog, index, adapters
        self._embedder, self._chunker, self._clock = embedder, chunker, clock
        self._writing = threading.Lock()

    def recover(self) -> None:
        """Finish what a crash left half-done: chunks that are not live, adapter folders."""
        with self._writing:
            for document_id in {document_id for document_id, _ in self._catalog.pending()}:
                self._tidy(document_id)
                record = self._catalog.find(document_id)
                if record is not None:  # Reindexing it may have been cut short.
                    chunks = self._chunker.chunk(record.document)
                    self._publish(record.document, chunks, record)
            self._adapters.sweep()

    def ingest(self, document: Document, internalizer: Internalizer | None = None) -> Ingested:
        """Take one document in; durable and answerable when this returns.

        Args:
            document: Replaces the document of the same id, if its text differs.
            internalizer: Makes an adapter, if the document has none of it yet; `None` makes
                none, and one that is live stays.

        Raises:
            SourceError: The document has no text.
            StaleDocumentError: The document was changed or deleted again meanwhile; then this text
                is not, or no longer, the live one.
            StoreError: Disk or index failed; the former revision, if any, is still there.
        """
        if not document.text.strip():
            raise SourceError(
                f"Document `{document.id}` has no text. Check that its source is not empty."
            )
        began = time.perf_counter()
        with self._writing:
            former = self._catalog.find(document.id)
            chunks = self._chunker.chunk(document)
            record, status, retired = self._publish(document, chunks, former)
        adapter, made, warning = self._internalize(document, chunks, internalizer)
        return Ingested(
            record=record,
            status=status,
            adapter=adapter,
            internalized=made,
            warning=warning,
            retired=retired,
            seconds=time.perf_counter() - began,
        )

    def delete(self, document_id: str) -> list[str]:
        """Delete a document: text, chunks and adapters. Returns the removed adapters' ids.

        Raises:
            UnknownDocumentError: There is no such document.
        """
        with self._writing:
            # From here on nothing of it can be found; what follows frees the space.
            removed = self._catalog.delete(document_id)
            self._tidy(document_id)
            for adapter_id in removed:
                self._adapters.discard(adapter_id)
        return removed

    def _publish(
        self, document: Document, chunks: list[Chunk], former: DocumentRecord | None
    ) -> tuple[DocumentRecord, IngestStatus, int]:
        now = self._clock()
        record = DocumentRecord(
            document=document,
            signals=document_signals(document, now),
            chunks=len(chunks),
            ingested_at=now,
            first_ingested_at=former.first_ingested_at if former else now,
        )
        status = IngestStatus.CHANGED if former else IngestStatus.ADDED
        if former and former.document.content_hash == document.content_hash:
            record = replace(record, ingested_at=former.ingested_at)
            if self._index.count(document.id) == len(chunks):
                if record != former:
                    self._catalog.touch(record)
                return record, IngestStatus.UNCHANGED, 0
            status = IngestStatus.REINDEXED
        vectors = self._embedder.embed([chunk.text for chunk in chunks])
        self._catalog.begin(document.id, document.content_hash)
        try:
            if status is IngestStatus.REINDEXED:
                self._index.remove(document.id)
            self._index.add(
                IndexedChunk(chunk=chunk, vector=vector, modified_at=document.modified_at)
                for chunk, vector in zip(chunks, vectors, strict=True)
            )
            retired = self._catalog.commit(record)
        except BaseException:
            self._tidy(document.id)
            raise
        if status is IngestStatus.CHANGED:
            self._tidy(document.id)
        return record, status, len(retired)

    def _tidy(self, document_id: str) -> None:
        """Remove chunks of revisions that are not live; if this fails, `recover` does it."""
        self._index.remove(document_id, keep_hash=self._catalog.live_hash(document_id))
        for pending_id, content_hash in self._catalog.pending():
            if pending_id == document_id:
                self._catalog.abandon(document_id, content_hash)

    def _internalize(
        self, document: Document, chunks: list[Chunk], internalizer: Internalizer | None
    ) -> tuple[AdapterRecord | None, bool, str | None]:
        """Return the live adapter, whether it was made now, and why there is none."""
        if internalizer is None:
            return None, False, None
        live = self._catalog.adapters(document.id, AdapterState.LIVE)
        for newer, adapter in enumerate(live):
            if (
                adapter.content_hash == document.content_hash
                and adapter.internalizer_fingerprint == internalizer.fingerprint
                and _fits(adapter, chunks)
                and self._is_intact(adapter)
            ):
                if newer:  # The one asked for last answers.
                    self._catalog.put_adapter(adapter)
                return adapter, False, None
        try:
            made = internalizer.internalize(document, chunks)
        except (DocumentTooLongError, InternalizeError) as exc:
            return None, False, str(exc)
        adapter = self._adapters.publish(
            made, document, internalizer.name, internalizer.fingerprint
        )
        return adapter, True, None

    def _is_intact(self, adapter: AdapterRecord) -> bool:
        try:
            self._adapters.load(adapter)
        except CorruptAdapterError:
            return False
        return True


def _fits(adapter: AdapterRecord, chunks: list[Chunk]) -> bool:
    """Tell whether an adapter's shares are made of whole chunks, as the index would name them."""
    starts, ends = {chunk.start for chunk in chunks}, {chunk.end for chunk in chunks}
    return len(adapter.shares) == 1 or all(s in starts and e in ends for s, e in adapter.shares)
