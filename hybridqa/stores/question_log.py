"""What was asked, how it was routed and what was answered: one line of JSON per question.

A line holds all that routing looked at, so that another policy can be tried on it later, and no
more of the documents than was quoted. `questions.jsonl` is set aside as `questions.1.jsonl` when it
is full, and the one set aside before it is gone.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from io import FileIO
from pathlib import Path

from pydantic import AwareDatetime, ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import from_json, to_json

from hybridqa.errors import InputError, StoreError
from hybridqa.stores.disk import disk_errors, replace_durably
from hybridqa.types import Arm, Attempt, Citation, DocumentSignals, QuerySignals, Signal, Style

FORMAT = 1
_STRICT = ConfigDict(extra="forbid", ser_json_inf_nan="constants")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class LoggedCandidate:
    """A document that might answer, with what conditions look at."""

    document_id: str
    content_hash: str
    signals: DocumentSignals
    similarity: float
    modified_at: AwareDatetime | None
    modified_by: str
    ingested_at: AwareDatetime
    first_ingested_at: AwareDatetime
    adapter_id: str | None
    """Of its live adapter."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class LoggedQuestion:
    """One question, as `engines.trace.Trace` tells it."""

    format: int = FORMAT
    asked_at: AwareDatetime
    question: str
    asked_arm: Arm | None
    """The caller's choice, as are the next two."""
    asked_documents: tuple[str, ...]
    asked_style: Style | None
    style: Style
    """In force."""
    policy: str
    """Name."""
    model: str
    """Fingerprint."""
    query: QuerySignals
    candidates: tuple[LoggedCandidate, ...]
    """Best first."""
    route: Arm
    """As decided, before any check."""
    arm: Arm | None
    """That answered; `None` if an error did."""
    reasons: tuple[str, ...]
    attempts: tuple[Attempt, ...]
    answer: str
    abstained: bool
    error: str | None
    citations: tuple[Citation, ...]
    confidence: float
    timings_ms: Mapping[str, float]
    prompt_tokens: int
    completion_tokens: int
    redacted: bool = False
    """A document that it names was deleted: reasons, answer, citations and the attempts' texts
    are gone."""

    @property
    def documents(self) -> frozenset[str]:
        """Ids of all documents that may have left their words here."""
        cited = {citation.document_id for citation in self.citations}
        return frozenset(cited | {candidate.document_id for candidate in self.candidates})


class QuestionLog:
    """Appends questions to a file; usable from several threads of one process."""

    def __init__(
        self,
        path: Path,
        live: Callable[[Collection[str]], Collection[str]],
        max_bytes: int = 64 << 20,
    ) -> None:
        """Name the file; it is made when first written.

        Args:
            path: Its folder exists.
            live: Returns those of some document ids that exist.
            max_bytes: When the file would get longer, it is set aside first.
        """
        self.path, self._live, self._max_bytes = path, live, max_bytes
        self.set_aside_path = path.with_name(f"{path.stem}.1{path.suffix}")
        self._lock = threading.Lock()
        self._warned = False

    def append(self, entry: LoggedQuestion) -> None:
        """Add a question. Where the disk refuses, warn once: an answer is worth more than its log.

        A document that was deleted while it was being answered from leaves no words here either.
        """
        with self._lock:
            try:
                if entry.documents - set(self._live(entry.documents)):
                    entry = _redacted(entry)
                self._write(_line(entry))
            except (OSError, StoreError) as exc:
                if not self._warned:
                    _log.warning(
                        "Questions are answered, but `%s` cannot be written: %s. Free some disk "
                        "space or make it writable, or set `log_questions: false` in the config.",
                        self.path,
                        exc,
                    )
                self._warned = True

    @contextmanager
    def forgetting(self, document_id: str) -> Iterator[None]:
        """Remove a document's words; nothing is logged until the block has deleted the document.

        They are removed before: if that fails, the document is still there to be deleted again.

        Raises:
            InputError: A line that names the document cannot be read.
            StoreError: The file cannot be read or written.
        """
        with self._lock:
            for path in (self.path, self.set_aside_path):
                if path.exists():
                    with disk_errors("remove the document from the question log", path):
                        _redact(path, document_id)
            yield

    def _write(self, line: bytes) -> None:
        """Append whole or not at all."""
        if self.path.exists() and self.path.stat().st_size + len(line) > self._max_bytes:
            os.replace(self.path, self.set_aside_path)
        with self.path.open("a+b", buffering=0) as file:
            size = _cut(file)
            if file.write(line) != len(line):
                file.truncate(size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_log(path: Path, last: int | None = None) -> list[LoggedQuestion]:
    """Read a question log, oldest first. A last line that a crash cut off is left out.

    Args:
        path: Written by `QuestionLog`.
        last: Only so many, from the end; `None` reads all.

    Raises:
        InputError: The file cannot be read, a newer version wrote it, or a line is damaged; names
            the line.
    """
    try:
        *lines, _ = path.read_bytes().split(b"\n")
    except OSError as exc:
        raise InputError(
            f"The question log `{path}` cannot be read: {exc.strerror or exc}. Name the "
            "`questions.jsonl` of a home, or the `log.jsonl` of an evaluation."
        ) from exc
    first = 0 if last is None else max(len(lines) - last, 0)
    return [_entry(line, path, number) for number, line in enumerate(lines[first:], first + 1)]


def _cut(file: FileIO) -> int:
    """Cut off a last line that a crash left torn; return the size."""
    size = whole = file.seek(0, os.SEEK_END)
    while whole and (file.seek(whole - 1), file.read(1))[1] != b"\n":
        whole -= 1
    if whole < size:
        file.truncate(whole)
    return whole


def _redact(path: Path, document_id: str) -> None:
    """Rewrite the lines that a document may have left its words in, all at once."""
    data, named = path.read_bytes(), to_json(document_id)
    if named not in data:
        return
    *lines, _ = data.split(b"\n")
    for n, line in enumerate(lines):
        if named in line:
            entry = _entry(line, path, n + 1)
            if document_id in entry.documents:
                lines[n] = _line(_redacted(entry))[:-1]
    replace_durably(path, b"".join(line + b"\n" for line in lines))


def _redacted(entry: LoggedQuestion) -> LoggedQuestion:
    """Return a question without any document's words; what routing looked at stays."""
    return replace(
        entry,
        redacted=True,
        candidates=tuple(
            replace(candidate, signals=_mute(candidate.signals)) for candidate in entry.candidates
        ),
        attempts=tuple(replace(attempt, text="") for attempt in entry.attempts),
        reasons=(),
        answer="",
        citations=(),
    )


def _mute(signals: DocumentSignals) -> DocumentSignals:
    """Drop the reasons: they repeat the document's words."""
    return DocumentSignals(
        volatility=Signal(value=signals.volatility.value),
        citation_need=Signal(value=signals.citation_need.value),
    )


def _line(entry: LoggedQuestion) -> bytes:
    return _adapter().dump_json(entry) + b"\n"


def _entry(line: bytes, path: Path, number: int) -> LoggedQuestion:
    try:
        raw = from_json(line)
        found = raw.get("format") if isinstance(raw, dict) else None
        if not (isinstance(found, int) and found > FORMAT):
            return _adapter().validate_python(raw)
    except ValidationError as exc:
        error = exc.errors(include_url=False, include_context=False, include_input=False)[0]
        told = f"`{'.'.join(map(str, error['loc']))}`: {error['msg']}"
    except ValueError as exc:
        told = str(exc)
    else:
        raise InputError(
            f"Line {number} of the question log `{path}` has format {found}, this hybridqa reads "
            f"up to {FORMAT}. Update hybridqa."
        )
    raise InputError(
        f"Line {number} of the question log `{path}` is damaged: {told}. Remove the line, or the "
        "file."
    )


@cache
def _adapter() -> TypeAdapter[LoggedQuestion]:
    return TypeAdapter(LoggedQuestion)
