"""What is known of jobs that take documents in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import AwareDatetime
from pydantic.dataclasses import dataclass as checked_dataclass


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    """Every document was tried, and one at least is in."""
    FAILED = "failed"
    """Every document was tried, and none is in."""
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        return self not in {JobState.QUEUED, JobState.RUNNING}


@checked_dataclass(frozen=True, kw_only=True)
class JobItem:
    """A document to take in: its text, or a file to parse."""

    id: str
    title: str | None = None
    source: str | None = None
    modified_at: AwareDatetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    internalizer: str | None = None
    """As for `HybridQA.ingest`."""
    suffix: str | None = None
    """Of a file, one of `connectors.parsers.PARSERS`; `None` where the data is the text itself."""
    data: bytes = b""
    """UTF-8 text, or the contents of a file."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """How far a job is."""

    id: str
    state: JobState
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    total: int
    """Documents."""
    current: str | None
    """Id of the document at work."""
    results: Sequence[Mapping[str, Any]]
    """One per document that was tried, in order; with an `error` where it failed."""
    version: int
    """Grows with every change."""

    @property
    def done(self) -> int:
        return len(self.results)

    @property
    def error(self) -> str | None:
        """Why it failed."""
        if self.state is not JobState.FAILED:
            return None
        return f"No document could be taken in. The first: {self.results[0]['error']['message']}"


@dataclass(frozen=True, kw_only=True)
class Work:
    """A document whose turn it is."""

    job_id: str
    number: int
    """In its job, from 0."""
    document_id: str
    tries: int
    """This one included: more than one if the process died at work on it."""
