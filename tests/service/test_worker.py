import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hybridqa.config import Config, InternalizeConfig, ModelConfig
from hybridqa.errors import StaleDocumentError, StoreError
from hybridqa.service.tenants import Tenants
from hybridqa.service.worker import Worker
from hybridqa.stores.jobs import Job, JobItem, JobState, JobStore
from hybridqa.testing import FakeEmbedder, FakeGenerator, FakeInternalizer, tiny_model
from hybridqa.wiring import Models


class Watched(FakeInternalizer):
    """Tells which documents it is given, and does what a test wants with them."""

    name = "associative"
    task_adapter = None

    def __init__(self, model_fingerprint: str) -> None:
        super().__init__(model_fingerprint)
        self.ids: list[str] = []
        self.then: Callable[[str], None] = lambda document_id: None

    def internalize(self, document: Any, chunks: Any) -> Any:
        self.ids.append(document.id)
        self.then(document.id)
        return super().internalize(document, chunks)


class Place:
    """A service's home, opened as often as a test likes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = Config(
            model=ModelConfig(name="fake", reader=None),
            internalize=InternalizeConfig(hypernetwork="/nowhere"),
        )
        self.models = Models(self.config)
        self.models.base = tiny_model()
        fingerprint = self.models.base.fingerprint
        self.models.generator = FakeGenerator(model_fingerprint=fingerprint)
        self.models.embedder = FakeEmbedder(dimension=256)
        self.internalizer = Watched(fingerprint)
        self.models.associative = self.internalizer  # type: ignore[assignment]

    def open(self) -> Tenants:
        return Tenants(self.root, self.config, self.models)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "home")


@pytest.fixture
def tenants(place: Place) -> Iterator[Tenants]:
    tenants = place.open()
    yield tenants
    tenants.close()


@pytest.fixture
def worker(tenants: Tenants) -> Iterator[Worker]:
    worker = Worker(tenants, pause_s=0.05)
    worker.start()
    yield worker
    assert worker.stop(10)


def text(name: str, said: str = "The lamp weighs 840 grams.") -> JobItem:
    return JobItem(id=name, data=f"{said} It is called {name}.".encode())


def ended(jobs: JobStore, job: Job) -> Job:
    while not job.state.finished:
        newer = jobs.wait(job.id, job.version, timeout_s=20)
        assert newer is not None, f"nothing happens any more to {job}"
        job = newer
    return job


def test_documents_are_ingested_and_can_be_asked_about(tenants: Tenants, worker: Worker) -> None:
    tenant = tenants.get("default")
    job = tenant.jobs.add([text("lamp")], 9)
    worker.wake("default")

    job = ended(tenant.jobs, job)

    assert job.state is JobState.SUCCEEDED
    assert job.results[0]["status"] == "added"
    assert job.results[0]["adapter"]
    assert "840" in tenant.qa.ask("How much does the lamp weigh?").text


def test_a_text_keeps_what_was_said_of_it(tenants: Tenants, worker: Worker) -> None:
    tenant = tenants.get("default")
    item = JobItem(
        id="lamp",
        data="Größe: 3.\n".encode(),
        title=" The\n lamp ",
        source="https://example.org/lamp",
        modified_at="2026-01-02T03:04:05+00:00",  # type: ignore[arg-type]
        metadata={"stability": "volatile"},
        internalizer="none",
    )
    job = tenant.jobs.add([item, text("plain")], 9)
    worker.wake("default")
    assert ended(tenant.jobs, job).results[0]["adapter"] is None

    found = tenant.qa.catalog.get("lamp").document

    assert (found.text, found.title) == ("Größe: 3.\n", "The lamp")
    assert found.source == "https://example.org/lamp"
    assert (found.modified_at, found.modified_by) == (item.modified_at, "owner")
    assert found.metadata == {"stability": "volatile"}
    plain = tenant.qa.catalog.get("plain").document
    assert (plain.title, plain.source, plain.modified_by) == ("plain", "plain", "unknown")


def test_a_file_is_parsed_and_its_front_matter_heeded(tenants: Tenants, worker: Worker) -> None:
    tenant = tenants.get("default")
    front = '---\nupdated: 2026-01-31\nhybridqa_node_ids: no\nowner: "Il\\ud800se"\n---\n'
    data = f"{front}# Lamps\n\nThe lamp weighs 840 grams.\n".encode()
    job = tenant.jobs.add(
        [JobItem(id="lamps", source="lamps.md", suffix=".md", data=data)], max_unfinished=9
    )
    worker.wake("default")
    ended(tenant.jobs, job)

    found = tenant.qa.catalog.get("lamps").document

    assert (found.title, found.source, found.modified_by) == ("Lamps", "lamps.md", "owner")
    assert found.modified_at is not None
    assert found.modified_at.date().isoformat() == "2026-01-31"
    assert found.metadata == {"owner": "Il?se"}
    assert found.text.startswith("# Lamps")


def test_a_bad_document_is_recorded_and_the_job_goes_on(tenants: Tenants, worker: Worker) -> None:
    tenant = tenants.get("default")
    bad = JobItem(id="bad", source="bad.docx", suffix=".docx", data=b"PK no archive")
    empty = JobItem(id="empty", source="empty.txt", suffix=".txt", data=b"")
    job = tenant.jobs.add([bad, empty, text("lamp")], 9)
    worker.wake("default")

    job = ended(tenant.jobs, job)

    assert job.state is JobState.SUCCEEDED
    assert [result.get("error", {}).get("type") for result in job.results] == [
        "source",
        "source",
        None,
    ]
    assert "bad.docx" in job.results[0]["error"]["message"]


def test_a_document_that_changes_meanwhile_is_recorded_as_stale(
    place: Place, tenants: Tenants, worker: Worker
) -> None:
    def change(document_id: str) -> None:
        raise StaleDocumentError(f"Document `{document_id}` was deleted meanwhile.")

    place.internalizer.then = change
    tenant = tenants.get("default")
    job = tenant.jobs.add([text("lamp")], 9)
    worker.wake("default")

    job = ended(tenant.jobs, job)

    assert job.state is JobState.FAILED
    assert job.results[0]["error"]["type"] == "stale-document"


@pytest.mark.parametrize(
    ("error", "kind"),
    [(RuntimeError("CUDA at /secret/path"), "internal"), (StoreError("/secret/path"), "store")],
)
def test_unexpected_errors_are_logged_and_recorded_without_internals(
    place: Place,
    tenants: Tenants,
    worker: Worker,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    kind: str,
) -> None:
    def fail(document_id: str) -> None:
        if document_id == "lamp":
            raise error

    place.internalizer.then = fail
    tenant = tenants.get("default")
    job = tenant.jobs.add([text("lamp"), text("bridge")], 9)
    with caplog.at_level(logging.ERROR):
        worker.wake("default")
        job = ended(tenant.jobs, job)

    told = job.results[0]["error"]
    assert (told["type"], "secret" in str(job)) == (kind, False)
    assert job.id in told["message"]
    assert "secret" in caplog.text
    assert job.results[1]["status"] == "added"


def test_tenants_take_turns_document_by_document(place: Place, tenants: Tenants) -> None:
    greedy, modest = tenants.get("greedy"), tenants.get("modest")
    long = greedy.jobs.add([text(f"g{n}") for n in range(4)], 9)
    short = modest.jobs.add([text("m0"), text("m1")], 9)
    worker = Worker(tenants)
    worker.start()

    ended(modest.jobs, short)
    ended(greedy.jobs, long)
    assert worker.stop(10)

    assert place.internalizer.ids == ["g0", "m0", "g1", "m1", "g2", "g3"]


def test_stopping_finishes_the_document_at_work_and_leaves_the_rest(
    place: Place, tenants: Tenants
) -> None:
    at_work, go_on = threading.Event(), threading.Event()

    def hold(document_id: str) -> None:
        at_work.set()
        assert go_on.wait(20)

    place.internalizer.then = hold
    jobs = tenants.get("default").jobs
    job = jobs.add([text("a"), text("b")], 9)
    worker = Worker(tenants)
    worker.start()
    assert at_work.wait(20)

    assert not worker.stop(timeout_s=0.05)  # not in time
    go_on.set()
    assert worker.stop(timeout_s=20)

    assert [result["id"] for result in jobs.get(job.id).results] == ["a"]
    assert not jobs.get(job.id).state.finished


def test_a_restart_goes_on_with_tenants_that_nobody_asked_for_yet(place: Place) -> None:
    with closing(place.open()) as before:
        job = before.get("acme").jobs.add([text("a")], 9)
    with closing(place.open()) as after:
        worker = Worker(after)
        worker.start()
        deadline = time.monotonic() + 20
        while not place.internalizer.ids and time.monotonic() < deadline:
            time.sleep(0.01)
        jobs = after.get("acme").jobs
        assert ended(jobs, jobs.get(job.id)).state is JobState.SUCCEEDED
        assert worker.stop(10)


def test_a_service_without_jobs_loads_no_models(tmp_path: Path) -> None:
    config = Config(model=ModelConfig(name="/nowhere"))
    with closing(Tenants(tmp_path, config)) as tenants:
        tenants.get("acme")
        worker = Worker(tenants)
        worker.start()
        worker.wake("acme")
        assert worker.stop(10)

        assert not [name for name in vars(tenants.models) if name in ("base", "embedder")]


def test_a_document_that_always_kills_the_process_is_given_up(place: Place) -> None:
    with closing(place.open()) as tenants:
        job = tenants.get("default").jobs.add([text("poison"), text("lamp")], 9)
    for _ in range(3):
        with closing(place.open()) as tenants:
            tenants.get("default").jobs.claim()  # and then it dies
    with closing(place.open()) as tenants:
        worker = Worker(tenants)
        worker.start()
        jobs = tenants.get("default").jobs

        job = ended(jobs, jobs.get(job.id))

        assert worker.stop(10)
    assert job.results[0]["error"]["type"] == "interrupted"
    assert job.results[1]["status"] == "added"


def test_jobs_that_cannot_be_read_do_not_hold_up_other_tenants(
    tenants: Tenants, worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    broken, sound = tenants.get("broken"), tenants.get("sound")
    broken.jobs.close()
    job = sound.jobs.add([text("lamp")], 9)
    with caplog.at_level(logging.ERROR):
        worker.wake("broken")
        worker.wake("sound")
        assert ended(sound.jobs, job).state is JobState.SUCCEEDED

    assert "The jobs of tenant `broken` rest" in caplog.text


def test_a_worker_that_was_never_started_stops(tenants: Tenants) -> None:
    assert Worker(tenants).stop(0)
