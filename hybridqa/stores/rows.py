"""The catalog's rows as values, and back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from hybridqa.errors import StoreError
from hybridqa.types import (
    AdapterRecord,
    AdapterState,
    Document,
    DocumentRecord,
    DocumentSignals,
    Signal,
)

Row = Sequence[Any]

_COLUMNS = ("id", "content_hash", "text", "details", "chunks", "ingested_at", "first_ingested_at")
SELECT_DOCUMENTS = f"SELECT {', '.join(_COLUMNS)} FROM documents"
SELECT_SUMMARIES = f"SELECT {', '.join(_COLUMNS).replace('text', 'length(text)')} FROM documents"
UPSERT_DOCUMENT = (
    f"INSERT INTO documents ({', '.join(_COLUMNS)}) VALUES (?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[1:-1])
)

_ADAPTER_COLUMNS = tuple(field.name for field in fields(AdapterRecord))
SELECT_ADAPTERS = f"SELECT {', '.join(_ADAPTER_COLUMNS)} FROM adapters"
INSERT_ADAPTER = (
    f"INSERT INTO adapters ({', '.join(_ADAPTER_COLUMNS)}) "
    f"VALUES ({', '.join('?' * len(_ADAPTER_COLUMNS))})"
)


@dataclass(frozen=True, kw_only=True)
class DocumentSummary:
    """A document's live revision without its text, for lists."""

    id: str
    title: str
    source: str
    content_hash: str
    size_bytes: int
    """Of the text in UTF-8."""
    modified_at: datetime | None
    signals: DocumentSignals
    chunks: int
    ingested_at: datetime
    first_ingested_at: datetime


def from_document(record: DocumentRecord) -> Row:
    document = record.document
    text = document.text.encode("utf-8", errors="surrogatepass")
    # JSON escapes what SQLite's text cannot hold, such as paths that are not UTF-8.
    details = {
        "title": document.title,
        "source": document.source,
        "modified_at": document.modified_at and document.modified_at.isoformat(),
        "modified_by": document.modified_by,
        "revisions": [time.isoformat() for time in document.revisions],
        "metadata": dict(document.metadata),
        "signals": {
            name: [signal.value, list(signal.reasons)]
            for name, signal in (
                ("volatility", record.signals.volatility),
                ("citation_need", record.signals.citation_need),
            )
        },
    }
    return (
        document.id,
        document.content_hash,
        text,
        json.dumps(details, ensure_ascii=True),
        record.chunks,
        record.ingested_at.isoformat(),
        record.first_ingested_at.isoformat(),
    )


def to_document(row: Row) -> DocumentRecord:
    """Return a record.

    Raises:
        StoreError: The text is not the one that was written.
    """
    document_id, stored_hash, data, details_json, chunks, ingested_at, first_ingested_at = row
    found_hash = hashlib.sha256(data).hexdigest()  # As `types.content_hash`, before decoding.
    if found_hash != stored_hash:
        raise StoreError(
            f"The stored text of document `{document_id}` is damaged: its hash is "
            f"`{found_hash[:12]}`, not `{stored_hash[:12]}`. Check the disk and ingest the "
            "document again."
        )
    text = bytes(data).decode("utf-8", errors="surrogatepass")
    details = _details(document_id, details_json)
    return DocumentRecord(
        document=Document(
            id=document_id,
            text=text,
            title=details["title"],
            source=details["source"],
            modified_at=_time(details["modified_at"]),
            modified_by=details["modified_by"],
            revisions=tuple(datetime.fromisoformat(time) for time in details["revisions"]),
            metadata=details["metadata"],
        ),
        signals=_signals(details),
        chunks=chunks,
        ingested_at=datetime.fromisoformat(ingested_at),
        first_ingested_at=datetime.fromisoformat(first_ingested_at),
    )


def to_summary(row: Row) -> DocumentSummary:
    document_id, stored_hash, size, details_json, chunks, ingested_at, first_ingested_at = row
    details = _details(document_id, details_json)
    return DocumentSummary(
        id=document_id,
        title=details["title"],
        source=details["source"],
        content_hash=stored_hash,
        size_bytes=size,
        modified_at=_time(details["modified_at"]),
        signals=_signals(details),
        chunks=chunks,
        ingested_at=datetime.fromisoformat(ingested_at),
        first_ingested_at=datetime.fromisoformat(first_ingested_at),
    )


def from_adapter(record: AdapterRecord) -> Row:
    values = {name: getattr(record, name) for name in _ADAPTER_COLUMNS}
    values["created_at"] = record.created_at.isoformat()
    values["state"] = record.state.value
    values["shares"] = json.dumps([list(span) for span in record.shares])
    return tuple(values.values())


def to_adapter(row: Row) -> AdapterRecord:
    values = dict(zip(_ADAPTER_COLUMNS, row, strict=True))
    values["created_at"] = datetime.fromisoformat(values["created_at"])
    values["state"] = AdapterState(values["state"])
    values["shares"] = tuple((start, end) for start, end in json.loads(values["shares"]))
    return AdapterRecord(**values)


def _details(document_id: str, text: str) -> dict[str, Any]:
    try:
        details: dict[str, Any] = json.loads(text)
    except ValueError as exc:
        raise StoreError(
            f"The stored details of document `{document_id}` are damaged: {exc}. Check the disk "
            "and ingest the document again."
        ) from exc
    return details


def _signals(details: dict[str, Any]) -> DocumentSignals:
    found = {
        name: Signal(value=value, reasons=tuple(reasons))
        for name, (value, reasons) in details["signals"].items()
    }
    return DocumentSignals(**found)


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
