import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

from hybridqa.api import documents, jobs, limits, problems, sse
from hybridqa.api.security import Access
from hybridqa.api.service import Service
from hybridqa.config import Config, InternalizeConfig, ModelConfig
from hybridqa.service.gate import Gate
from hybridqa.service.tenants import Tenants
from hybridqa.service.worker import Worker
from hybridqa.stores.jobs import Job, JobItem, JobStore
from hybridqa.stores.keys import KeyStore, Scope

GONE = {"id": "a", "error": {"type": "source", "message": "no text"}}


class Site:
    """Its worker is never started: tests do the work."""

    def __init__(self, home: Path, keys: KeyStore | None = None) -> None:
        config = Config(
            model=ModelConfig(name="/nowhere"), internalize=InternalizeConfig(internalizer="none")
        )
        self.tenants = Tenants(home, config)
        self.service = Service(
            tenants=self.tenants,
            keys=keys,
            gate=Gate("questions", 9, 9),
            worker=Worker(self.tenants),
            limits=config.serve,
        )
        self.app = FastAPI()
        self.app.add_middleware(limits.RequestIds)
        problems.install(self.app)
        access = Access(self.service)
        for module in (documents, jobs):
            self.app.include_router(module.router(self.service, access))
        self.client = TestClient(self.app, raise_server_exceptions=False)

    @property
    def jobs(self) -> JobStore:
        return self.tenants.get("default").jobs

    def add(self, *names: str) -> Job:
        return self.jobs.add([JobItem(id=name, data=b"A.") for name in names], 99)

    def work(self, result: Any = None) -> None:
        work = self.jobs.claim()
        assert work is not None
        self.jobs.record(work, result or {"id": work.document_id, "status": "added"})


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "home")
    yield site
    site.tenants.close()


@pytest.fixture
def url(site: Site) -> Iterator[str]:
    """Address of the site behind a real server, which tells when clients vanish."""
    server = uvicorn.Server(uvicorn.Config(site.app, log_level="warning", lifespan="off"))
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        site.service.stopping.set()
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def events(text: str) -> list[tuple[int, Any]]:
    found = []
    for block in filter(None, text.strip().split("\n\n")):  # none, if it stopped at once
        lines = dict(line.split(": ", 1) for line in block.split("\n"))
        assert lines["event"] == "job"
        found.append((int(lines["id"]), json.loads(lines["data"])))
    return found


def test_a_job_is_shown_with_what_became_of_its_documents(site: Site) -> None:
    job = site.add("a", "b")
    site.work(GONE)
    site.jobs.claim()

    shown = site.client.get(f"/v1/jobs/{job.id}").json()

    assert (shown["state"], shown["total"], shown["done"]) == ("running", 2, 1)
    assert (shown["current"], shown["results"], shown["error"]) == ("b", [GONE], None)


def test_a_job_without_success_says_why(site: Site) -> None:
    job = site.add("a")
    site.work(GONE)

    shown = site.client.get(f"/v1/jobs/{job.id}").json()

    assert shown["state"] == "failed"
    assert "no text" in shown["error"]


def test_jobs_are_listed_newest_first_in_pages(site: Site) -> None:
    ids = [site.add(name).id for name in "abc"][::-1]

    first = site.client.get("/v1/jobs?limit=2").json()
    second = site.client.get("/v1/jobs", params={"limit": 2, "before": first["next"]}).json()

    assert [job["id"] for job in first["jobs"]] == ids[:2]
    assert ([job["id"] for job in second["jobs"]], second["next"]) == (ids[2:], None)
    assert site.client.get("/v1/jobs?limit=3").json()["next"] is None


@pytest.mark.parametrize(
    ("query", "status"), [("limit=0", 422), ("limit=101", 422), ("before=nothing", 404)]
)
def test_lists_that_cannot_be_had_are_refused(site: Site, query: str, status: int) -> None:
    assert site.client.get(f"/v1/jobs?{query}").status_code == status


def test_a_job_is_cancelled(site: Site) -> None:
    job = site.add("a")

    for _ in range(2):
        assert site.client.delete(f"/v1/jobs/{job.id}").json()["state"] == "cancelled"
    assert site.jobs.claim() is None


@pytest.mark.parametrize("path", ["nothing", "nothing/events", "%00", "%ff/events", "%F0%9F%98%80"])
def test_unknown_jobs_are_told(site: Site, path: str) -> None:
    response = site.client.get(f"/v1/jobs/{path}")

    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


def test_jobs_of_another_tenant_are_unknown(tmp_path: Path) -> None:
    keys = KeyStore(tmp_path / "keys.json")
    site = Site(tmp_path / "home", keys)
    job = site.add("a")
    theirs = {"Authorization": f"Bearer {keys.create('other', Scope.WRITE)[1]}"}
    reader = {"Authorization": f"Bearer {keys.create('default', Scope.READ)[1]}"}

    for method, path in (("GET", ""), ("GET", "/events"), ("DELETE", "")):
        response = site.client.request(method, f"/v1/jobs/{job.id}{path}", headers=theirs)
        assert response.status_code == 404
    assert site.client.get(f"/v1/jobs?before={job.id}", headers=theirs).status_code == 404
    assert site.client.get("/v1/jobs", headers=theirs).json()["jobs"] == []
    assert site.client.delete(f"/v1/jobs/{job.id}", headers=reader).status_code == 403
    assert site.client.get(f"/v1/jobs/{job.id}/events").status_code == 401
    assert site.jobs.get(job.id) == job
    site.tenants.close()


def test_events_tell_each_change_and_end_with_the_job(site: Site, url: str) -> None:
    job = site.add("a", "b")
    told: list[tuple[int, Any]] = []
    with httpx.stream("GET", f"{url}/v1/jobs/{job.id}/events", timeout=20) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        for text in response.iter_text():  # the stream ends by itself
            if not told:
                threading.Thread(target=lambda: [site.work(), site.work()]).start()
            told += events(text)

    assert told[0][1]["state"] == "queued"
    assert (told[-1][1]["state"], told[-1][1]["done"]) == ("succeeded", 2)
    versions = [version for version, _ in told]
    assert versions == sorted(set(versions))
    assert versions == [each["version"] for _, each in told]


def test_who_comes_back_is_told_what_is_new(site: Site) -> None:
    job = site.add("a")
    site.work()
    version = site.jobs.get(job.id).version
    address = f"/v1/jobs/{job.id}/events"

    for last, expected in ((version - 1, 200), (version, 204), (version + 5, 204)):
        response = site.client.get(address, headers={"Last-Event-ID": str(last)})
        assert response.status_code == expected
        assert response.text.count("event: job") == (expected == 200)


@pytest.mark.parametrize("last", ["", "x", "-1", "1e9", "9" * 400, "\u0662"])
def test_a_last_event_that_was_not_ours_is_ignored(site: Site, last: str) -> None:
    job = site.add("a")
    site.jobs.cancel(job.id)

    headers = {b"Last-Event-ID": last.encode()}
    response = site.client.get(f"/v1/jobs/{job.id}/events", headers=headers)  # type: ignore[arg-type]

    assert len(events(response.text)) == 1


def test_a_client_that_vanishes_leaves_no_thread_behind(site: Site, url: str) -> None:
    job = site.add("a")
    address = f"{url}/v1/jobs/{job.id}/events"
    waits: list[float] = []
    wait = site.jobs.wait

    def watched(job_id: str, after: int, timeout_s: float) -> Job | None:
        waits.append(time.monotonic())
        return wait(job_id, after, timeout_s)

    site.jobs.wait = watched  # type: ignore[method-assign]
    for _ in range(5):
        with httpx.stream("GET", address, timeout=20) as response:
            next(response.iter_text())
    time.sleep(1.2)
    vanished = time.monotonic()
    time.sleep(0.8)

    assert waits
    assert max(waits) < vanished


def test_streams_hold_no_thread_that_other_requests_need(site: Site, url: str) -> None:
    job = site.add("a")
    with ExitStack() as open_streams, httpx.Client(timeout=20) as client:
        for _ in range(60):
            stream = httpx.stream("GET", f"{url}/v1/jobs/{job.id}/events", timeout=20)
            next(open_streams.enter_context(stream).iter_raw())
        began = time.monotonic()

        assert client.get(f"{url}/v1/jobs/{job.id}").status_code == 200

        assert time.monotonic() - began < 2


def test_streams_end_when_the_service_stops(site: Site, url: str) -> None:
    job = site.add("a")
    with httpx.stream("GET", f"{url}/v1/jobs/{job.id}/events", timeout=20) as response:
        site.service.stopping.set()

        assert all(state["state"] == "queued" for _, state in events(response.read().decode()))


def test_a_quiet_stream_is_kept_alive(
    site: Site, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "KEEP_ALIVE_S", 0.1)
    job = site.add("a")
    with httpx.stream("GET", f"{url}/v1/jobs/{job.id}/events", timeout=20) as response:
        texts = response.iter_text()
        next(texts)

        assert next(texts) == ": keep-alive\n\n"


def test_bodies_that_never_come_hold_up_their_tenant_only_so_far(site: Site, url: str) -> None:
    address = ("127.0.0.1", int(url.rpartition(":")[2]))
    head = (
        b"POST /v1/documents HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 20\r\n\r\n{"
    )
    with ExitStack() as slow:
        for _ in range(8):
            slow.enter_context(socket.create_connection(address)).sendall(head)
        deadline = time.monotonic() + 10
        while (answer := send(url)).status_code != 429:
            assert time.monotonic() < deadline
        assert int(answer.headers["retry-after"]) > 0

    while send(url).status_code != 202:  # they went away
        assert time.monotonic() < deadline + 10


def send(url: str) -> httpx.Response:
    return httpx.post(f"{url}/v1/documents", json={"text": "A."}, timeout=20)


def test_ids_with_percent_signs_are_decoded_once(site: Site, url: str) -> None:
    response = httpx.get(f"{url}/v1/documents/50%2520off%2Fnow")

    assert "`50%20off/now`" in response.json()["detail"]
