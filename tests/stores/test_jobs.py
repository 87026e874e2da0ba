import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hybridqa.errors import OverloadedError, StoreError, UnknownJobError
from hybridqa.stores.jobs import JobItem, JobState, JobStore, Work

SECRET = "the vault opens at dawn"


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[JobStore]:
    store = JobStore(tmp_path / "jobs", keep=100)
    yield store
    store.close()


def items(*names: str) -> list[JobItem]:
    return [JobItem(id=name, data=f"{SECRET} {name}".encode()) for name in names]


def claimed(jobs: JobStore) -> Work:
    work = jobs.claim()
    assert work is not None
    return work


def done(jobs: JobStore) -> Work:
    work = claimed(jobs)
    jobs.record(work, {"id": work.document_id})
    return work


def failure(name: str) -> dict[str, Any]:
    return {"id": name, "error": {"type": "source", "message": f"{name} is bad"}}


def on_disk(folder: Path, text: str) -> bool:
    return any(text.encode() in path.read_bytes() for path in folder.iterdir())


def test_a_job_is_worked_on_document_by_document_in_order(jobs: JobStore) -> None:
    job = jobs.add(items("a", "b"), max_unfinished=5)
    assert (job.state, job.total, job.done, job.started_at) == (JobState.QUEUED, 2, 0, None)

    first = claimed(jobs)

    running = jobs.get(job.id)
    assert (running.state, running.current, running.done) == (JobState.RUNNING, "a", 0)
    jobs.record(first, {"id": "a", "status": "added"})
    assert done(jobs).document_id == "b"
    ended = jobs.get(job.id)
    assert (ended.state, ended.current, ended.done) == (JobState.SUCCEEDED, None, 2)
    assert ended.results == [{"id": "a", "status": "added"}, {"id": "b"}]
    assert ended.created_at <= ended.started_at <= ended.finished_at  # type: ignore[operator]
    assert job.version < running.version < ended.version
    assert jobs.claim() is None


def test_what_was_sent_comes_back_as_it_was(jobs: JobStore) -> None:
    sent = JobItem(
        id="Größe/100 %",
        title="T",
        source="https://example.org",
        modified_at=datetime(2026, 1, 2, tzinfo=UTC),
        metadata={"stability": "volatile"},
        internalizer="none",
        suffix=".pdf",
        data=b"\0\xff\n",
    )
    jobs.add([sent], max_unfinished=1)

    assert jobs.load(claimed(jobs)) == sent


def test_a_store_opened_again_goes_on_after_the_documents_that_are_done(tmp_path: Path) -> None:
    before = JobStore(tmp_path / "jobs", keep=9)
    job = before.add(items("a", "b", "c"), max_unfinished=9)
    done(before)
    claimed(before)
    version = before.get(job.id).version
    before.close()

    after = JobStore(tmp_path / "jobs", keep=9)

    found = after.get(job.id)
    assert (found.state, found.done, found.current) == (JobState.QUEUED, 1, None)
    assert found.version > version
    again = claimed(after)
    assert (again.document_id, again.tries) == ("b", 2)
    assert after.load(again).data.endswith(b"b")
    after.close()


def test_jobs_are_worked_on_in_the_order_they_came(jobs: JobStore) -> None:
    jobs.add(items("a", "b"), 9)
    jobs.add(items("c"), 9)

    assert [done(jobs).document_id for _ in range(3)] == ["a", "b", "c"]


def test_a_job_fails_only_if_all_its_documents_did(jobs: JobStore) -> None:
    mixed, bad = jobs.add(items("a", "b"), 9), jobs.add(items("c", "d"), 9)
    jobs.record(claimed(jobs), failure("a"))
    done(jobs)
    for name in "cd":
        jobs.record(claimed(jobs), failure(name))

    assert jobs.get(mixed.id).state is JobState.SUCCEEDED
    assert jobs.get(mixed.id).error is None
    assert jobs.get(bad.id).state is JobState.FAILED
    assert "c is bad" in str(jobs.get(bad.id).error)


def test_a_queued_job_is_cancelled_at_once_and_its_texts_are_gone(
    jobs: JobStore, tmp_path: Path
) -> None:
    job = jobs.add(items("a"), 9)
    assert on_disk(tmp_path / "jobs", SECRET)

    cancelled = jobs.cancel(job.id)

    assert (cancelled.state, cancelled.total, cancelled.done) == (JobState.CANCELLED, 1, 0)
    assert cancelled.finished_at is not None
    assert jobs.claim() is None
    assert not on_disk(tmp_path / "jobs", SECRET)


def test_a_running_job_is_cancelled_after_the_document_at_work(
    jobs: JobStore, tmp_path: Path
) -> None:
    job = jobs.add(items("a", "b"), 9)
    work = claimed(jobs)

    assert jobs.cancel(job.id).state is JobState.RUNNING
    jobs.record(work, {"id": "a"})

    ended = jobs.get(job.id)
    assert (ended.state, ended.done, ended.total) == (JobState.CANCELLED, 1, 2)
    assert jobs.claim() is None
    assert not on_disk(tmp_path / "jobs", SECRET)


def test_a_running_job_that_waits_for_its_turn_is_cancelled_at_once(jobs: JobStore) -> None:
    job = jobs.add(items("a", "b"), 9)
    done(jobs)

    assert jobs.cancel(job.id).state is JobState.CANCELLED


def test_a_cancelled_job_whose_last_document_ends_has_succeeded(jobs: JobStore) -> None:
    job = jobs.add(items("a"), 9)
    work = claimed(jobs)
    jobs.cancel(job.id)
    jobs.record(work, {"id": "a"})

    assert jobs.get(job.id).state is JobState.SUCCEEDED


def test_a_job_that_was_being_cancelled_in_a_crash_is_cancelled(tmp_path: Path) -> None:
    before = JobStore(tmp_path / "jobs", keep=9)
    job = before.add(items("a", "b"), 9)
    claimed(before)
    before.cancel(job.id)
    before.close()

    after = JobStore(tmp_path / "jobs", keep=9)

    assert after.get(job.id).state is JobState.CANCELLED
    assert after.claim() is None
    after.close()


def test_cancelling_a_finished_job_changes_nothing(jobs: JobStore) -> None:
    job = jobs.add(items("a"), 9)
    done(jobs)
    ended = jobs.get(job.id)

    assert jobs.cancel(job.id) == ended
    jobs.cancel(jobs.add(items("b"), 9).id)
    assert jobs.get(job.id) == ended


def test_the_text_of_a_document_that_is_done_is_on_no_page_of_the_disk(
    jobs: JobStore, tmp_path: Path
) -> None:
    jobs.add([JobItem(id="a", data=SECRET.encode() * 1000, title="Plan of the vault")], 9)
    assert on_disk(tmp_path / "jobs", SECRET)

    done(jobs)

    assert not on_disk(tmp_path / "jobs", SECRET)
    assert not on_disk(tmp_path / "jobs", "Plan of the vault")


def test_beyond_its_limit_a_tenant_must_wait(jobs: JobStore) -> None:
    first = jobs.add(items("a"), max_unfinished=1)
    with pytest.raises(OverloadedError, match="1 jobs of this tenant"):
        jobs.add(items("b"), max_unfinished=1)

    jobs.cancel(first.id)

    jobs.add(items("b"), max_unfinished=1)


def test_the_jobs_that_ended_first_are_forgotten(tmp_path: Path) -> None:
    jobs = JobStore(tmp_path / "jobs", keep=2)
    slow, *others = [jobs.add(items(name), 9) for name in "abcd"]
    for job in others:
        jobs.cancel(job.id)
    done(jobs)

    assert [job.id for job in jobs.list(9)] == [others[2].id, slow.id]
    with pytest.raises(UnknownJobError):
        jobs.get(others[0].id)
    jobs.close()


def test_jobs_are_listed_newest_first_and_in_pages(jobs: JobStore) -> None:
    ids = [jobs.add(items(name), 9).id for name in "abc"][::-1]

    assert [job.id for job in jobs.list(2)] == ids[:2]
    assert [job.id for job in jobs.list(2, before=ids[1])] == ids[2:]
    assert jobs.list(2, before=ids[2]) == []
    with pytest.raises(UnknownJobError):
        jobs.list(2, before="nothing")


def test_unknown_jobs_are_told(jobs: JobStore) -> None:
    for ask in (jobs.get, jobs.cancel, lambda name: jobs.wait(name, 0, 0)):
        with pytest.raises(UnknownJobError, match="`nothing`"):
            ask("nothing")


def test_waiting_ends_with_the_next_change(jobs: JobStore) -> None:
    job = jobs.add(items("a"), 9)
    assert jobs.wait(job.id, after=job.version - 1, timeout_s=0) == job
    assert jobs.wait(job.id, after=job.version, timeout_s=0.01) is None
    timer = threading.Timer(0.05, jobs.claim)
    began = time.monotonic()
    timer.start()

    found = jobs.wait(job.id, after=job.version, timeout_s=30)

    timer.join()
    assert found is not None
    assert found.state is JobState.RUNNING
    assert time.monotonic() - began < 10


def test_a_full_disk_is_told_and_leaves_nothing_half_written(
    jobs: JobStore, tmp_path: Path
) -> None:
    jobs.add(items("a"), 9)
    database = jobs._database
    with database.read() as db:  # as a quota would
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages + 4}")

    with pytest.raises(StoreError, match=r"full.*Free some disk space"):
        jobs.add([*items("b"), JobItem(id="big", data=b"x" * 1_000_000)], 9)

    assert [job.total for job in jobs.list(9)] == [1]
    assert done(jobs).document_id == "a"
    assert jobs.claim() is None


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "jobs.sqlite").write_bytes(b"no database at all" * 100)

    with pytest.raises(StoreError, match=r"jobs\.sqlite"):
        JobStore(tmp_path / "jobs", keep=9)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "jobs").write_text("in the way")

    with pytest.raises(StoreError, match="Cannot"):
        JobStore(tmp_path / "jobs", keep=9)


@pytest.mark.parametrize(
    ("column", "value"), [("details", '{"id": 5'), ("details", "null"), ("data", None)]
)
def test_damaged_documents_are_told_and_can_be_recorded(
    jobs: JobStore, tmp_path: Path, column: str, value: str | None
) -> None:
    job = jobs.add(items("a"), 9)
    with sqlite3.connect(tmp_path / "jobs" / "jobs.sqlite") as foreign:
        foreign.execute(f"UPDATE items SET {column} = ?", (value,))
    foreign.close()

    work = claimed(jobs)

    with pytest.raises(StoreError, match=job.id):
        jobs.load(work)
    jobs.record(work, failure("a"))
    assert jobs.get(job.id).state is JobState.FAILED


def test_damaged_results_are_told(jobs: JobStore, tmp_path: Path) -> None:
    job = jobs.add(items("a"), 9)
    done(jobs)
    with sqlite3.connect(tmp_path / "jobs" / "jobs.sqlite") as foreign:
        foreign.execute("UPDATE items SET result = '{'")
    foreign.close()

    with pytest.raises(StoreError, match=f"Job `{job.id}` is damaged"):
        jobs.get(job.id)


def test_results_may_hold_any_text(jobs: JobStore) -> None:
    job = jobs.add(items("a"), 9)
    result = json.loads('{"id": "a", "warning": "\\ud800 \\u0000 ü"}')
    jobs.record(claimed(jobs), result)

    assert jobs.get(job.id).results == [result]
