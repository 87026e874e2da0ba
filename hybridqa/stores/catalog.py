"""What is known: one live revision per document, and the manifest of its adapters.

Freshness is kept here. `commit` switches a document's text and retires the adapters of its old
text in one transaction, and `live_adapters` returns only adapters made from the text that is live
at that moment, so no reader can pair a new text with an old adapter.
"""

from __future__ import annotations

import builtins
import re
import sqlite3
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from hybridqa.errors import (
    InputError,
    StaleDocumentError,
    UnknownAdapterError,
    UnknownDocumentError,
)
from hybridqa.stores import rows
from hybridqa.stores.database import Database
from hybridqa.types import AdapterRecord, AdapterState, DocumentRecord

_APPLICATION_ID = 0x48_79_51_41  # "HyQA"
_SCHEMA = """
CREATE TABLE documents (
    id TEXT PRIMARY KEY,
    content_hash TEXT NOT NULL,
    text BLOB NOT NULL,
    details TEXT NOT NULL,
    chunks INTEGER NOT NULL,
    ingested_at TEXT NOT NULL,
    first_ingested_at TEXT NOT NULL
);
CREATE TABLE pending (
    document_id TEXT NOT NULL,
    content_hash TEXT NOT NULL,
    cancelled INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (document_id, content_hash)
);
CREATE TABLE adapters (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    document_id TEXT NOT NULL REFERENCES documents (id),
    content_hash TEXT NOT NULL,
    model_fingerprint TEXT NOT NULL,
    internalizer TEXT NOT NULL,
    internalizer_fingerprint TEXT NOT NULL,
    task_adapter_id TEXT,
    rank INTEGER NOT NULL,
    energy REAL NOT NULL,
    shares TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    seconds REAL NOT NULL,
    created_at TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('live', 'retired'))
);
CREATE INDEX adapters_by_document ON adapters (document_id, state)
"""
_UPGRADES = ["ALTER TABLE adapters ADD COLUMN good_shares INTEGER NOT NULL DEFAULT 1"]


class Catalog:
    """Documents and adapters in one SQLite file; usable from several threads.

    Every method raises `StoreError` when the file is damaged or the disk is full; a write then
    leaves nothing behind.
    """

    def __init__(self, path: str | Path) -> None:
        self._database = Database(Path(path), _APPLICATION_ID, _SCHEMA, _UPGRADES)

    def close(self) -> None:
        self._database.close()

    # Documents: begin, write chunks into the index, commit; then remove the chunks of the revisions
    # that are pending (given up, replaced or deleted) and abandon those. So a crash leaves no chunk
    # that nobody knows of.

    def begin(self, document_id: str, content_hash: str) -> None:
        """Note that chunks of this revision are about to be written, so that a crash is seen."""
        with self._database.write() as db:
            db.execute(
                "INSERT INTO pending (document_id, content_hash) VALUES (?, ?) "
                "ON CONFLICT DO UPDATE SET cancelled = 0",
                (document_id, content_hash),
            )

    def commit(self, record: DocumentRecord) -> builtins.list[str]:
        """Make a begun revision live and retire the adapters of any other text, at once.

        Other revisions of the document that are still being written lose: their commit fails.
        The earliest `first_ingested_at` is kept whatever `record` says. The text that is replaced
        is pending from now on.

        Returns:
            Ids of the adapters that were retired.

        Raises:
            StaleDocumentError: The revision was not begun, or the document was deleted or
                committed with another text meanwhile.
        """
        document_id, content_hash = record.document.id, record.document.content_hash
        key = (document_id, content_hash)
        with self._database.write() as db:
            begun = db.execute(
                "DELETE FROM pending WHERE document_id = ? AND content_hash = ? AND NOT cancelled",
                key,
            ).rowcount
            former = _live_hash(db, document_id)
            if not begun and former != content_hash:
                raise StaleDocumentError(
                    f"Revision `{content_hash[:12]}` of document `{document_id}` was not begun, "
                    "or the document was deleted or replaced while its chunks were being "
                    "written. Ingest it again."
                )
            db.execute("UPDATE pending SET cancelled = 1 WHERE document_id = ?", (document_id,))
            if former not in (None, content_hash):
                _outdate(db, document_id, str(former))
            _write_document(db, record)
            retired = db.execute(
                "UPDATE adapters SET state = 'retired' "
                "WHERE document_id = ? AND content_hash <> ? AND state = 'live' RETURNING id",
                key,
            ).fetchall()
        return [row[0] for row in retired]

    def touch(self, record: DocumentRecord) -> None:
        """Update what is known of a document (dates, metadata, signals) whose text is the same.

        Raises:
            UnknownDocumentError: There is no such document.
            StaleDocumentError: The live text is another one.
        """
        document_id, content_hash = record.document.id, record.document.content_hash
        with self._database.write() as db:
            live = _live_hash(db, document_id)
            if live is None:
                raise UnknownDocumentError(document_id)
            if live != content_hash:
                raise StaleDocumentError(
                    f"Document `{document_id}` has text `{live[:12]}`, not "
                    f"`{content_hash[:12]}`. Ingest it again."
                )
            _write_document(db, record)

    def abandon(self, document_id: str, content_hash: str) -> None:
        """Forget a pending revision, once its chunks are out of the index."""
        with self._database.write() as db:
            db.execute(
                "DELETE FROM pending WHERE document_id = ? AND content_hash = ?",
                (document_id, content_hash),
            )

    def pending(self) -> builtins.list[tuple[str, str]]:
        """Return (document_id, content_hash) of revisions that may have chunks but are not live."""
        with self._database.read() as db:
            found = db.execute("SELECT document_id, content_hash FROM pending ORDER BY rowid")
            return [(row[0], row[1]) for row in found]

    def get(self, document_id: str) -> DocumentRecord:
        """Return the live revision.

        Raises:
            UnknownDocumentError: There is no such document.
        """
        record = self.find(document_id)
        if record is None:
            raise UnknownDocumentError(document_id)
        return record

    def find(self, document_id: str) -> DocumentRecord | None:
        """Return the live revision, or `None`."""
        with self._database.read() as db:
            row = db.execute(f"{rows.SELECT_DOCUMENTS} WHERE id = ?", (document_id,)).fetchone()
        return None if row is None else rows.to_document(row)

    def live_hash(self, document_id: str) -> str | None:
        """Return the content hash of the live revision; `None` if there is no such document."""
        with self._database.read() as db:
            return _live_hash(db, document_id)

    def live_hashes(self, document_ids: Iterable[str] | None = None) -> dict[str, str]:
        """Return content hashes by document id, of those asked for that exist (default: all)."""
        query = "SELECT id, content_hash FROM documents"
        with self._database.read() as db:
            if document_ids is None:
                return dict(db.execute(f"{query} ORDER BY id"))
            hashes = ((wanted, _live_hash(db, wanted)) for wanted in document_ids)
            return {wanted: found for wanted, found in hashes if found is not None}

    def summaries(self) -> builtins.list[rows.DocumentSummary]:
        """Return all documents by id without their texts."""
        with self._database.read() as db:
            found = db.execute(f"{rows.SELECT_SUMMARIES} ORDER BY id").fetchall()
        return [rows.to_summary(row) for row in found]

    def list(self) -> builtins.list[DocumentRecord]:
        """Return all documents by id, texts included. To list many, use `summaries`."""
        with self._database.read() as db:
            found = db.execute(f"{rows.SELECT_DOCUMENTS} ORDER BY id").fetchall()
        return [rows.to_document(row) for row in found]

    def delete(self, document_id: str) -> builtins.list[str]:
        """Delete a document with its adapters' rows; its text is overwritten on disk.

        Revisions of it that are being written can no longer be committed; all are pending from now
        on.

        Returns:
            Ids of the adapters whose rows are gone; their folders are still there.

        Raises:
            UnknownDocumentError: There is no such document.
        """
        key = (document_id,)
        with self._database.write() as db:
            removed = db.execute(
                "DELETE FROM adapters WHERE document_id = ? RETURNING id", key
            ).fetchall()
            live = _live_hash(db, document_id)
            if live is None:
                raise UnknownDocumentError(document_id)
            db.execute("DELETE FROM documents WHERE id = ?", key)
            db.execute("UPDATE pending SET cancelled = 1 WHERE document_id = ?", key)
            _outdate(db, document_id, live)
        self._database.forget()
        return [row[0] for row in removed]

    # Adapters

    def put_adapter(self, record: AdapterRecord) -> builtins.list[str]:
        """Add an adapter. A live one replaces live ones of its document and internalizer.

        Returns:
            Ids of the adapters that were retired for it.

        Raises:
            StaleDocumentError: The document's live text is not the one it was made from.
        """
        with self._database.write() as db:
            live = _live_hash(db, record.document_id)
            if live != record.content_hash:
                raise StaleDocumentError(
                    f"Adapter `{record.id[:12]}` was made from text "
                    f"`{record.content_hash[:12]}` of document `{record.document_id}`, which "
                    + (f"has changed to `{live[:12]}`" if live else "is no longer there")
                    + ". The adapter was dropped; ingest the document again to make a new one."
                )
            retired: builtins.list[tuple[str]] = []
            if record.state is AdapterState.LIVE:
                retired = db.execute(
                    "UPDATE adapters SET state = 'retired' WHERE document_id = ? "
                    "AND internalizer = ? AND id <> ? AND state = 'live' RETURNING id",
                    (record.document_id, record.internalizer, record.id),
                ).fetchall()
            db.execute("DELETE FROM adapters WHERE id = ?", (record.id,))
            db.execute(rows.INSERT_ADAPTER, rows.from_adapter(record))
        return [row[0] for row in retired]

    def adapters(
        self, document_id: str | None = None, state: AdapterState | None = None
    ) -> builtins.list[AdapterRecord]:
        """Return adapters, newest first: all, or those of a document or in a state."""
        with self._database.read() as db:
            found = db.execute(
                f"{rows.SELECT_ADAPTERS} WHERE (?1 IS NULL OR document_id = ?1) "
                "AND (?2 IS NULL OR state = ?2) ORDER BY sequence DESC",
                (document_id, None if state is None else state.value),
            ).fetchall()
        return [rows.to_adapter(row) for row in found]

    def live_adapters(
        self, document_id: str, content_hash: str, model_fingerprint: str
    ) -> builtins.list[AdapterRecord]:
        """Return the live adapters of a text for a model, newest first.

        Empty when `content_hash` is not the document's live text any more.
        """
        with self._database.read() as db:
            found = db.execute(
                f"{rows.SELECT_ADAPTERS} WHERE document_id = ?1 AND state = 'live' "
                "AND content_hash = ?2 AND model_fingerprint = ?3 "
                "AND ?2 = (SELECT content_hash FROM documents WHERE id = ?1) "
                "ORDER BY sequence DESC",
                (document_id, content_hash, model_fingerprint),
            ).fetchall()
        return [rows.to_adapter(row) for row in found]

    def adapter(self, adapter_id: str) -> AdapterRecord:
        """Return an adapter by its id, or by the first 8 or more characters of it.

        Raises:
            UnknownAdapterError: There is none.
            InputError: Several ids begin like this.
        """
        if not re.fullmatch("[0-9a-f]{8,64}", adapter_id):
            raise UnknownAdapterError(adapter_id)
        with self._database.read() as db:
            found = db.execute(
                f"{rows.SELECT_ADAPTERS} WHERE id >= ? AND id < ?",
                (adapter_id, f"{adapter_id}g"),
            ).fetchall()
        if not found:
            raise UnknownAdapterError(adapter_id)
        if len(found) > 1:
            raise InputError(
                f"`{adapter_id}` begins the ids of {len(found)} adapters. Give more characters."
            )
        return rows.to_adapter(found[0])

    def retire(self, adapter_id: str) -> AdapterRecord:
        """Take an adapter out of use; it stays in the store. Returns its new record.

        Raises:
            UnknownAdapterError: There is none of that id (or unique prefix).
        """
        record = self.adapter(adapter_id)
        with self._database.write() as db:
            db.execute("UPDATE adapters SET state = 'retired' WHERE id = ?", (record.id,))
        return replace(record, state=AdapterState.RETIRED)

    def remove_adapter(self, adapter_id: str) -> None:
        """Delete an adapter's row.

        Raises:
            UnknownAdapterError: There is none of that id (or unique prefix).
        """
        record = self.adapter(adapter_id)
        with self._database.write() as db:
            db.execute("DELETE FROM adapters WHERE id = ?", (record.id,))


def _live_hash(db: sqlite3.Connection, document_id: str) -> str | None:
    row = db.execute("SELECT content_hash FROM documents WHERE id = ?", (document_id,)).fetchone()
    return None if row is None else str(row[0])


def _outdate(db: sqlite3.Connection, document_id: str, content_hash: str) -> None:
    """Note that chunks of this revision are in the index and must leave it."""
    db.execute(
        "INSERT INTO pending (document_id, content_hash, cancelled) VALUES (?, ?, 1) "
        "ON CONFLICT DO UPDATE SET cancelled = 1",
        (document_id, content_hash),
    )


def _write_document(db: sqlite3.Connection, record: DocumentRecord) -> None:
    """Insert or update; the first known `first_ingested_at` stays."""
    db.execute(rows.UPSERT_DOCUMENT, rows.from_document(record))
