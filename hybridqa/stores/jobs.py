"""Jobs that take documents in: what is to be done, how far it is, and what became of it.

They survive a crash: a job that was at work is queued again when the store is opened, and goes on
after the documents that are done. What was sent lies in the database until its turn has come, and
is overwritten then, so that no deleted document lives on here.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from hybridqa.errors import OverloadedError, StoreError, UnknownJobError
from hybridqa.stores.database import Database
from hybridqa.stores.disk import disk_errors
from hybridqa.stores.job import Job, JobItem, JobState, Work

__all__ = ["Job", "JobItem", "JobState", "JobStore", "Work"]

_APPLICATION_ID = 0x48_79_51_4A  # "HyQJ"
_SCHEMA = """
CREATE TABLE jobs (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    created_at TEXT NOT NULL,
    started_at TEXT,
    finished_at TEXT,
    total INTEGER NOT NULL,
    current TEXT,
    cancelled INTEGER NOT NULL DEFAULT 0,
    version INTEGER NOT NULL DEFAULT 1
);
CREATE TABLE items (
    job INTEGER NOT NULL REFERENCES jobs (sequence) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    document_id TEXT NOT NULL,
    details TEXT,
    data BLOB,
    tries INTEGER NOT NULL DEFAULT 0,
    result TEXT,
    PRIMARY KEY (job, number)
)
"""
_SELECT = (
    "SELECT sequence, id, state, created_at, started_at, finished_at, total, current, version "
    "FROM jobs"
)
_UNFINISHED = "state IN ('queued', 'running')"
_RETRY_AFTER_S = 10


_ITEM = TypeAdapter(JobItem)


class JobStore:
    """Jobs of one tenant; usable from several threads.

    Every method raises `StoreError` when the file is damaged or the disk is full; a write then
    leaves nothing behind.
    """

    def __init__(self, folder: str | Path, keep: int = 1000) -> None:
        """Open or create the store; jobs that were at work are queued again.

        Args:
            folder: Belongs to the store alone; created if it is missing.
            keep: Finished jobs that are remembered.

        Raises:
            StoreError: It cannot be read or written.
        """
        folder = Path(folder)
        with disk_errors("create the folder", folder):
            folder.mkdir(exist_ok=True)
        self._database = Database(folder / "jobs.sqlite", _APPLICATION_ID, _SCHEMA)
        self._keep = keep
        self._changed = threading.Condition()
        try:
            with self._database.write() as db:
                given_up = f"SELECT sequence FROM jobs WHERE {_UNFINISHED} AND cancelled"
                for (sequence,) in db.execute(given_up).fetchall():
                    self._finish(db, sequence, JobState.CANCELLED)
                db.execute(
                    "UPDATE jobs SET state = 'queued', current = NULL, version = version + 1 "
                    "WHERE state = 'running'"
                )
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        self._database.close()

    def add(self, items: Sequence[JobItem], max_unfinished: int) -> Job:
        """Queue a job; durable when this returns.

        Raises:
            OverloadedError: There are `max_unfinished` jobs already.
            StoreError: The disk is full or cannot be written.
        """
        job_id = uuid.uuid4().hex
        with self._database.write() as db:
            waiting = db.execute(f"SELECT count(*) FROM jobs WHERE {_UNFINISHED}").fetchone()[0]
            if waiting >= max_unfinished:
                raise OverloadedError("jobs of this tenant", max_unfinished, _RETRY_AFTER_S)
            sequence = db.execute(
                "INSERT INTO jobs (id, state, created_at, total) VALUES (?, 'queued', ?, ?)",
                (job_id, _now(), len(items)),
            ).lastrowid
            db.executemany(
                "INSERT INTO items (job, number, document_id, details, data) "
                "VALUES (?, ?, ?, ?, ?)",
                [
                    (sequence, n, item.id, _ITEM.dump_json(item, exclude={"data"}), item.data)
                    for n, item in enumerate(items)
                ],
            )
        self._notify()
        return self.get(job_id)

    def get(self, job_id: str) -> Job:
        """Return a job.

        Raises:
            UnknownJobError: There is none of that id.
        """
        with self._database.read() as db:
            row = db.execute(f"{_SELECT} WHERE id = ?", (job_id,)).fetchone()
            if row is None:
                raise UnknownJobError(job_id)
            return _job(db, row)

    def list(self, limit: int, before: str | None = None) -> Sequence[Job]:
        """Return jobs, the newest first.

        Args:
            limit: Most to return.
            before: Only those older than the job of this id.

        Raises:
            UnknownJobError: There is no job `before`.
        """
        with self._database.read() as db:
            last = 1 << 62
            if before is not None:
                found = db.execute("SELECT sequence FROM jobs WHERE id = ?", (before,)).fetchone()
                if found is None:
                    raise UnknownJobError(before)
                last = found[0]
            rows = db.execute(
                f"{_SELECT} WHERE sequence < ? ORDER BY sequence DESC LIMIT ?",
                (last, limit),
            ).fetchall()
            return [_job(db, row) for row in rows]

    def unfinished(self) -> int:
        """Return how many jobs are queued or at work."""
        with self._database.read() as db:
            return int(db.execute(f"SELECT count(*) FROM jobs WHERE {_UNFINISHED}").fetchone()[0])

    def cancel(self, job_id: str) -> Job:
        """End a job: at once, or after the document at work. A finished one stays as it is.

        Raises:
            UnknownJobError: There is none of that id.
        """
        with self._database.write() as db:
            changed = db.execute(
                "UPDATE jobs SET cancelled = 1, version = version + 1 "
                f"WHERE id = ? AND {_UNFINISHED} AND NOT cancelled RETURNING sequence, current",
                (job_id,),
            ).fetchall()
            for sequence, current in changed:
                if current is None:
                    self._finish(db, sequence, JobState.CANCELLED)
        if changed:
            self._database.forget()
            self._notify()
        return self.get(job_id)

    def wait(self, job_id: str, after: int, timeout_s: float) -> Job | None:
        """Return a job once it has a version later than `after`; `None` if that takes too long.

        Raises:
            UnknownJobError: There is none of that id, or no more.
        """
        found: list[Job] = []

        def newer() -> bool:
            job = self.get(job_id)
            if job.version > after:
                found.append(job)
            return bool(found)

        with self._changed:
            self._changed.wait_for(newer, timeout_s)
        return found[0] if found else None

    # What the worker calls, from one thread

    def claim(self) -> Work | None:
        """Put the next document to work; `None` if there is none."""
        with self._database.write() as db:
            found = db.execute(
                "SELECT jobs.sequence, jobs.id, number, document_id, tries + 1 FROM jobs "
                "JOIN items ON job = jobs.sequence "
                f"WHERE {_UNFINISHED} AND result IS NULL ORDER BY jobs.sequence, number LIMIT 1"
            ).fetchone()
            if found is None:
                return None
            sequence, job_id, number, document_id, tries = found
            db.execute(
                "UPDATE jobs SET state = 'running', current = ?, version = version + 1, "
                "started_at = coalesce(started_at, ?) WHERE sequence = ?",
                (document_id, _now(), sequence),
            )
            db.execute(
                "UPDATE items SET tries = ? WHERE job = ? AND number = ?", (tries, sequence, number)
            )
        self._notify()
        return Work(job_id=job_id, number=number, document_id=document_id, tries=tries)

    def load(self, work: Work) -> JobItem:
        """Return what was sent of a document at work.

        Raises:
            StoreError: It is damaged.
        """
        with self._database.read() as db:
            details, data = db.execute(
                "SELECT details, data FROM items JOIN jobs ON job = sequence "
                "WHERE id = ? AND number = ?",
                (work.job_id, work.number),
            ).fetchone()
        with _damage(work.job_id):
            return _ITEM.validate_python({**json.loads(details), "data": bytes(data)})

    def record(self, work: Work, result: Mapping[str, Any]) -> None:
        """Note what became of a document, and drop what was sent of it.

        Args:
            work: As claimed.
            result: Of what JSON knows; with an `error` that has a `message` where it failed.
        """
        with self._database.write() as db:
            sequence, cancelled = db.execute(
                "SELECT sequence, cancelled FROM jobs WHERE id = ?", (work.job_id,)
            ).fetchone()
            db.execute(
                "UPDATE items SET result = ?, details = NULL, data = NULL "
                "WHERE job = ? AND number = ?",
                (json.dumps(result), sequence, work.number),
            )
            db.execute(
                "UPDATE jobs SET current = NULL, version = version + 1 WHERE sequence = ?",
                (sequence,),
            )
            job = _job(db, db.execute(f"{_SELECT} WHERE id = ?", (work.job_id,)).fetchone())
            if job.done == job.total:
                failed = all("error" in result for result in job.results)
                self._finish(db, sequence, JobState.FAILED if failed else JobState.SUCCEEDED)
            elif cancelled:
                self._finish(db, sequence, JobState.CANCELLED)
        self._database.forget()
        self._notify()

    def _finish(self, db: sqlite3.Connection, sequence: int, state: JobState) -> None:
        db.execute(
            "UPDATE jobs SET state = ?, finished_at = ?, current = NULL, version = version + 1 "
            "WHERE sequence = ?",
            (state.value, _now(), sequence),
        )
        db.execute("DELETE FROM items WHERE job = ? AND result IS NULL", (sequence,))
        db.execute(
            "DELETE FROM jobs WHERE sequence IN (SELECT sequence FROM jobs "
            f"WHERE NOT {_UNFINISHED} ORDER BY finished_at DESC, sequence DESC LIMIT -1 OFFSET ?)",
            (self._keep,),
        )

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()


def _job(db: sqlite3.Connection, row: Sequence[Any]) -> Job:
    sequence, job_id, state, created, started, finished, total, current, version = row
    results = db.execute(
        "SELECT result FROM items WHERE job = ? AND result IS NOT NULL ORDER BY number", (sequence,)
    ).fetchall()
    with _damage(job_id):
        return Job(
            id=job_id,
            state=JobState(state),
            created_at=datetime.fromisoformat(created),
            started_at=started and datetime.fromisoformat(started),
            finished_at=finished and datetime.fromisoformat(finished),
            total=total,
            current=current,
            results=[json.loads(result) for (result,) in results],
            version=version,
        )


@contextmanager
def _damage(job_id: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError) as exc:
        raise StoreError(
            f"Job `{job_id}` is damaged: {exc}. Restore `jobs.sqlite` from a backup, or move it "
            "away: that gives up all jobs."
        ) from exc


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
