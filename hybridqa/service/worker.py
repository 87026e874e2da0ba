"""Ingestion in the background: one thread, which takes turns among tenants."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from hybridqa.connectors.parsers import parse
from hybridqa.errors import (
    DocumentTooLongError,
    HybridQAError,
    InputError,
    InternalizeError,
    StaleDocumentError,
)
from hybridqa.models.turns import background
from hybridqa.serialize import ingested_dict
from hybridqa.service.tenants import Tenant, Tenants, tenant_home
from hybridqa.stores.jobs import JobItem, Work
from hybridqa.types import Document

_MAX_TRIES = 3
"""Of a document that is at work whenever the process dies."""
_TELLABLE = (InputError, DocumentTooLongError, InternalizeError, StaleDocumentError)
"""Errors that speak of the document; others speak of this machine."""
_log = logging.getLogger(__name__)


class Worker:
    """Ingests what tenants' jobs hold: of each tenant one document, then of the next tenant."""

    def __init__(self, tenants: Tenants, pause_s: float = 10.0) -> None:
        """Keep the arguments; `start` begins.

        Args:
            tenants: Opened when they have work.
            pause_s: Rest of a tenant whose jobs cannot be read or written.
        """
        self._tenants, self._pause_s = tenants, pause_s
        self._queue: deque[str] = deque()
        self._resting: dict[str, float] = {}
        """Tenants by when they are tried again."""
        self._changed = threading.Condition()
        self._is_stopping = False
        # A document that takes longer than `stop` waits for is begun anew at the next start.
        self._thread = threading.Thread(target=self._run, name="hybridqa-worker", daemon=True)

    def start(self) -> None:
        """Begin, with what was left when the service was last stopped."""
        for name in self._tenants.known():
            if (tenant_home(self._tenants.root, name) / "jobs").is_dir():
                self.wake(name)
        self._thread.start()

    def wake(self, tenant: str) -> None:
        """Tell that a tenant has a new job."""
        with self._changed:
            if tenant not in self._queue:
                self._queue.append(tenant)
            self._changed.notify_all()

    def stop(self, timeout_s: float) -> bool:
        """Finish the document at work and leave the rest queued.

        Returns:
            Whether that was done in time.
        """
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (name := self._next()) is not None:
            try:
                if self._take_turn(self._tenants.get(name)):
                    self.wake(name)
            except Exception:
                _log.exception("The jobs of tenant `%s` rest for %g s.", name, self._pause_s)
                self._resting[name] = time.monotonic() + self._pause_s

    def _next(self) -> str | None:
        """Wait for a tenant that has work; `None` once stopped."""
        with self._changed:
            while not self._is_stopping:
                now = time.monotonic()
                for name in [name for name, when in self._resting.items() if when <= now]:
                    del self._resting[name]
                    if name not in self._queue:
                        self._queue.append(name)
                if self._queue:
                    return self._queue.popleft()
                soonest = min(self._resting.values(), default=None)
                self._changed.wait(None if soonest is None else soonest - now)
        return None

    def _take_turn(self, tenant: Tenant) -> bool:
        """Ingest one document of a tenant, if it has any."""
        work = tenant.jobs.claim()
        if work is None:
            return False
        tenant.jobs.record(work, _result(tenant, work))
        return True


def _result(tenant: Tenant, work: Work) -> Mapping[str, Any]:
    """Ingest a document; return what became of it."""
    if work.tries > _MAX_TRIES:
        return _failed(
            work,
            "interrupted",
            f"Ingesting it was begun {_MAX_TRIES} times and never came to an end. Split it, or "
            "leave it out.",
        )
    try:
        item = tenant.jobs.load(work)
        with background():
            return ingested_dict(tenant.qa.ingest(to_document(item), item.internalizer))
    except _TELLABLE as exc:
        return _failed(work, _kind(exc), str(exc))
    except Exception as exc:
        where = f"job `{work.job_id}`, document {work.number + 1}"
        _log.exception("%s of tenant `%s` cannot be ingested.", where, tenant.name)
        kind = _kind(exc) if isinstance(exc, HybridQAError) else "internal"
        return _failed(work, kind, f"The service could not take it in; its log says why: {where}.")


def to_document(item: JobItem) -> Document:
    """Return the document of an item, parsed if it is a file.

    Raises:
        SourceError: The file is broken, or there is no text in it.
    """
    title, modified_at, metadata = item.title, item.modified_at, dict(item.metadata)
    source = item.source or item.id
    if item.suffix is None:
        text = item.data.decode()
        title = title or item.id
    else:
        parsed = parse(item.suffix, item.data, source)
        text = parsed.text
        title = title or parsed.word.title or PurePath(source).stem
        modified_at = modified_at or parsed.word.updated
        # Names that begin so are our own.
        told = {k: v for k, v in parsed.word.metadata.items() if not k.startswith("hybridqa_")}
        metadata = told | metadata
    return Document(
        id=item.id,
        text=text,
        title=_encodable(" ".join(title.split())),
        source=source,
        modified_at=modified_at,
        modified_by="owner" if modified_at else "unknown",
        metadata={_encodable(key): _encodable(value) for key, value in metadata.items()},
    )


def _failed(work: Work, kind: str, message: str) -> Mapping[str, Any]:
    return {"id": work.document_id, "error": {"type": kind, "message": _encodable(message)}}


def _kind(error: Exception) -> str:
    """Return `stale-document` for a `StaleDocumentError`."""
    name = type(error).__name__.removesuffix("Error")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()


def _encodable(text: str) -> str:
    """Return a text without lone surrogates, which YAML escapes may write."""
    return text.encode("utf-8", "replace").decode()
