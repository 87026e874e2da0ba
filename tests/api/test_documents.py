import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from hybridqa.api import documents, jobs, limits, problems
from hybridqa.api.security import Access
from hybridqa.api.service import Service
from hybridqa.config import Config, InternalizeConfig, ModelConfig, ServeConfig
from hybridqa.service.gate import Gate
from hybridqa.service.tenants import Tenants
from hybridqa.service.worker import Worker
from hybridqa.stores.keys import KeyStore, Scope
from hybridqa.testing import FakeEmbedder, FakeGenerator, tiny_model
from hybridqa.types import Document
from hybridqa.wiring import Models

LIMITS = ServeConfig(max_body_bytes=1024, max_upload_bytes=50_000, max_documents=3, max_jobs=50)
ODD_IDS = ["a/b/c.md", "two words", "100 %", "Größe/über.txt", "日本語", "a?b#c&d=e"]


class Site:
    def __init__(self, home: Path, keys: KeyStore | None = None, settings: ServeConfig = LIMITS):
        config = Config(
            model=ModelConfig(name="fake", reader=None),
            internalize=InternalizeConfig(internalizer="none"),
            serve=settings,
        )
        models = Models(config)
        models.base = tiny_model()
        models.generator = FakeGenerator(model_fingerprint=models.base.fingerprint)
        models.embedder = FakeEmbedder(dimension=256)
        self.tenants = Tenants(home, config, models)
        self.service = Service(
            tenants=self.tenants,
            keys=keys,
            gate=Gate("questions", 9, 9),
            worker=Worker(self.tenants),
            limits=settings,
        )
        app = FastAPI(max_body_size=settings.max_body_bytes)
        app.add_middleware(limits.RequestIds)
        problems.install(app)
        access = Access(self.service)
        for module in (documents, jobs):
            app.include_router(module.router(self.service, access))
        self.client = TestClient(app, raise_server_exceptions=False)

    def add(self, *names: str) -> None:
        qa = self.tenants.get("default").qa
        for name in names:
            qa.ingest(Document(id=name, text=f"The lamp {name} is red.", title=name, source=name))

    def sent(self, **parts: Any) -> list[Any]:
        """Send it and return what the job holds."""
        response = self.client.post("/v1/documents", **parts)
        assert response.status_code == 202, response.text
        store, items = self.tenants.get("default").jobs, []
        while work := store.claim():
            items.append(store.load(work))
            store.record(work, {"id": work.document_id})
        return items


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "home")
    yield site
    site.tenants.close()


def refused(site: Site, status: int = 422, **parts: Any) -> str:
    response = site.client.post("/v1/documents", **parts)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert site.tenants.get("default").jobs.list(9) == []
    detail: str = response.json()["detail"]
    return detail


def test_a_text_becomes_a_job_and_then_a_document(site: Site) -> None:
    site.service.worker.start()
    sent = {
        "id": "lamp",
        "text": "The lamp weighs 840 grams.",
        "title": "The lamp",
        "source": "https://example.org",
        "modified_at": "2026-01-02T03:04:05+02:00",
        "metadata": {"stability": "volatile"},
    }

    response = site.client.post("/v1/documents", json=sent)

    job = response.json()
    assert (response.status_code, job["state"], job["total"]) == (202, "queued", 1)
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    with site.client.stream("GET", f"/v1/jobs/{job['id']}/events") as events:
        *_, last = [line for line in events.iter_lines() if line.startswith("data: ")]
    result = json.loads(last.removeprefix("data: "))["results"][0]
    assert (result["id"], result["status"], "error" in result) == ("lamp", "added", False)
    shown = site.client.get("/v1/documents/lamp", params={"text": "true"}).json()
    assert shown["text"] == sent["text"]
    assert shown["modified_at"] == "2026-01-02T03:04:05+02:00"
    assert (shown["title"], shown["metadata"]) == ("The lamp", {"stability": "volatile"})
    assert site.service.worker.stop(10)


def test_several_texts_are_one_job(site: Site) -> None:
    items = site.sent(json={"documents": [{"id": "a", "text": "A."}, {"text": "B."}]})

    assert [item.data for item in items] == [b"A.", b"B."]
    assert items[0].id == "a"


def test_a_text_without_id_gets_the_same_one_each_time(site: Site) -> None:
    first, again, other = (site.sent(json={"text": t})[0].id for t in ("A.", "A.", "B."))

    assert first == again != other


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("", "JSON"),
        ("{", "JSON"),
        ("[]", "body"),
        ("null", "body"),
        ("5", "body"),
        ("[" * 5000, "JSON"),
        ("{}", "text"),
        ('{"text": ""}', "text"),
        ('{"text": " \\n\\t"}', "empty"),
        ('{"text": "a\\u0000b"}', "NUL"),
        ('{"text": "a\\ud800b"}', "JSON"),
        ('{"text": 5}', "text"),
        ('{"text": null}', "text"),
        ('{"text": "A.", "colour": "red"}', "colour"),
        ('{"text": "A.", "id": ""}', "id"),
        ('{"text": "A.", "id": "a\\nb"}', "control"),
        ('{"text": "A.", "id": "a\\u0000"}', "control"),
        ('{"text": "A.", "id": "\\ud800"}', "JSON"),
        ('{"text": "A.", "id": "a/../b"}', "URL"),
        ('{"text": "A.", "id": "%s"}' % ("x" * 513), "512"),
        ('{"text": "A.", "title": "%s"}' % ("x" * 513), "512"),
        ('{"text": "A.", "modified_at": "2026-01-02T03:04:05"}', "timezone"),
        ('{"text": "A.", "modified_at": "yesterday"}', "modified_at"),
        ('{"text": "A.", "modified_at": 5}', "modified_at"),
        ('{"text": "A.", "internalizer": "magic"}', "associative"),
        ('{"text": "A.", "metadata": {"a": 5}}', "metadata"),
        ('{"text": "A.", "metadata": {"hybridqa_node_ids": "x"}}', "taken"),
        ('{"documents": []}', "documents"),
        ('{"documents": {}}', "documents"),
        ('{"documents": [{"text": "A."}, {"text": ""}]}', "documents.1.text"),
        ('{"documents": [{"text": "A."}], "text": "B."}', "text"),
        (json.dumps({"documents": [{"text": f"{n}."} for n in range(4)]}), "limit 3"),
    ],
)
def test_json_that_cannot_be_used_is_refused_as_a_whole(site: Site, body: str, told: str) -> None:
    headers = {"Content-Type": "application/json"}

    assert told in refused(site, content=body, headers=headers)


def test_bytes_that_are_no_utf8_are_refused(site: Site) -> None:
    headers = {"Content-Type": "application/json"}

    refused(site, content=b'{"text": "\xff\xfe"}', headers=headers)


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "", "multipart/mixed"])
def test_other_kinds_of_content_are_refused(site: Site, kind: str) -> None:
    refused(site, 415, content=b"A.", headers={"Content-Type": kind})


def test_the_limit_of_uploads_is_wider_than_of_other_bodies_but_holds(site: Site) -> None:
    assert len(site.sent(json={"text": "x" * 40_000})) == 1

    too_long = json.dumps({"text": "x" * 60_000}).encode()
    headers = {"Content-Type": "application/json"}
    for content in (too_long, iter([too_long[:30_000], too_long[30_000:]])):  # told, and not told
        response = site.client.post("/v1/documents", content=content, headers=headers)
        assert response.status_code == 413
        assert response.headers["content-type"] == "application/problem+json"
    files = {"file": ("a.txt", b"x" * 60_000)}
    assert site.client.post("/v1/documents", files=files).status_code == 413


def test_files_are_one_job_and_named_by_the_last_part_of_their_names(site: Site) -> None:
    names = ["plans/../../etc/Größe 1.MD", "C:\\secret\\b.txt", "/c.html"]
    items = site.sent(files=[("file", (name, b"# A")) for name in names])

    assert [(item.id, item.source, item.suffix) for item in items] == [
        ("Größe 1.MD", "Größe 1.MD", ".md"),
        ("b.txt", "b.txt", ".txt"),
        ("c.html", "c.html", ".html"),
    ]
    assert items[0].data == b"# A"


def test_one_file_may_be_given_an_id_and_a_title(site: Site) -> None:
    data = {"id": "rules/2026", "title": "Rules", "internalizer": "none"}
    (item,) = site.sent(files={"file": ("rules.pdf", b"%PDF")}, data=data)

    assert (item.id, item.title, item.internalizer) == ("rules/2026", "Rules", "none")
    assert (item.source, item.suffix, item.data) == ("rules.pdf", ".pdf", b"%PDF")


def test_nothing_is_ever_written_under_a_clients_name(site: Site, tmp_path: Path) -> None:
    for name in ("../../evil.txt", "..\\evil.txt", "/tmp/evil.txt"):
        assert site.sent(files={"file": (name, b"A.")})[0].id == "evil.txt"

    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize(
    ("files", "data", "told"),
    [
        ([("other", ("a.txt", b"A."))], {}, "file"),
        ([("file", ("a.exe", b"MZ"))], {}, "`.exe`"),
        ([("file", ("a", b"A."))], {}, "without suffix"),
        ([("file", (".txt", b"A."))], {}, "without suffix"),
        ([("file", ("a.txt/", b"A."))], {}, "file name|at least 1"),
        ([("file", (f"{'x' * 600}.txt", b"A."))], {}, "512"),
        ([("file", ("a.txt", b"A.")), ("file", ("b.txt", b"B."))], {"id": "x"}, "one file"),
        ([("file", ("a.txt", b"A.")), ("file", ("x/a.txt", b"B."))], {}, "twice"),
        ([("file", ("a.txt", b"A."))], {"id": "a\nb"}, "control"),
        ([("file", ("a.txt", b"A."))], {"colour": "red"}, "colour"),
        ([("file", ("a.txt", b"A."))], {"internalizer": "magic"}, "associative"),
    ],
)
def test_forms_that_cannot_be_used_are_refused(
    site: Site, files: Any, data: Any, told: str
) -> None:
    detail = refused(site, files=files, data=data)

    assert any(word in detail for word in told.split("|")), detail


def form(*parts: bytes) -> dict[str, Any]:
    body = b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n"
    return {"content": body, "headers": {"Content-Type": "multipart/form-data; boundary=b"}}


@pytest.mark.parametrize(
    "part",
    [
        b'Content-Disposition: form-data; name="file"\r\n\r\nA.',
        b'Content-Disposition: form-data; name="file"; filename=""\r\n\r\nA.',
    ],
)
def test_files_without_a_name_are_refused(site: Site, part: bytes) -> None:
    assert "file name" in refused(site, **form(part))


def test_file_names_with_control_characters_are_refused(site: Site) -> None:
    part = b'Content-Disposition: form-data; name="file"; filename="a\x01.txt"\r\n\r\nA.'

    assert "control" in refused(site, **form(part))


@pytest.mark.parametrize(
    "parts",
    [
        {"content": b"", "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
        {"content": b"A.", "headers": {"Content-Type": "multipart/form-data"}},
        {"content": b"\0\xff" * 99, "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
        form(b"no header at all"),
        form(b"Content-Disposition: form-data\r\n\r\nA."),
        form(b'Content-Disposition: form-data; name="\xff"; filename="\xff.txt"\r\n\r\nA.'),
        {"files": [("file", (f"{n}.txt", b"A.")) for n in range(9)]},
        {"files": {"file": ("a.txt", b"A.")}, "data": {f"f{n}": "x" for n in range(99)}},
    ],
)
def test_forms_out_of_shape_are_refused(site: Site, parts: Any) -> None:
    response = site.client.post("/v1/documents", **parts)

    assert response.status_code in (400, 422), response.text
    assert response.headers["content-type"] == "application/problem+json"


def test_beyond_the_limit_of_jobs_clients_must_wait(tmp_path: Path) -> None:
    site = Site(tmp_path, settings=replace(LIMITS, max_jobs=1))
    assert site.client.post("/v1/documents", json={"text": "A."}).status_code == 202

    response = site.client.post("/v1/documents", json={"text": "B."})

    assert response.status_code == 429
    assert int(response.headers["retry-after"]) > 0
    site.tenants.close()


def test_documents_are_listed_by_id_in_pages(site: Site) -> None:
    site.add("b", "a/1", "Ü", "c")
    pages, after = [], None
    while True:
        query = {"limit": 2} | ({"after": after} if after else {})
        page = site.client.get("/v1/documents", params=query).json()
        pages.append([each["id"] for each in page["documents"]])
        after = page["next"]
        if after is None:
            break

    assert pages == [["a/1", "b"], ["c", "Ü"]]
    assert "text" not in page["documents"][0]
    beyond = site.client.get("/v1/documents", params={"after": "\U0010ffff"}).json()
    assert beyond == {"documents": [], "next": None}


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "limit=-1"])
def test_pages_have_a_limit(site: Site, query: str) -> None:
    assert site.client.get(f"/v1/documents?{query}").status_code == 422


@pytest.mark.parametrize("name", ODD_IDS)
def test_any_id_can_be_shown_and_deleted(site: Site, name: str) -> None:
    site.add(name)
    url = f"/v1/documents/{quote(name, safe='/')}"

    assert site.client.get(url).json()["id"] == name
    assert site.client.get(f"/v1/documents/{quote(name, safe='')}").json()["id"] == name
    assert "text" not in site.client.get(url).json()
    assert site.client.get(f"{url}?text=true").json()["text"] == f"The lamp {name} is red."
    assert site.client.delete(url).json() == {"id": name, "removed_adapters": []}
    assert site.client.get(url).status_code == 404
    assert site.client.delete(url).status_code == 404


@pytest.mark.parametrize("path", ["nothing", "a%00b", "%ff%fe", "", "%2e%2e%2fcatalog.sqlite"])
def test_unknown_documents_are_told(site: Site, path: str) -> None:
    for method in ("GET", "DELETE"):
        response = site.client.request(method, f"/v1/documents/{path}")

        assert response.status_code in (404, 405), response.text
        assert response.headers["content-type"] == "application/problem+json"


def test_names_of_files_that_no_encoding_holds_are_shown_replaced(site: Site) -> None:
    qa = site.tenants.get("default").qa
    qa.ingest(Document(id="lamp", text="The lamp is red.", title="L\udcff", source="/x/\udcff"))

    shown = site.client.get("/v1/documents/lamp").json()

    assert (shown["title"], shown["source"]) == ("L?", "/x/?")
    assert site.client.get("/v1/documents").status_code == 200


def test_each_tenant_sees_its_own_documents_only(tmp_path: Path) -> None:
    keys = KeyStore(tmp_path / "keys.json")
    site = Site(tmp_path / "home", keys)
    site.add("lamp")
    mine = {"Authorization": f"Bearer {keys.create('default', Scope.READ)[1]}"}
    theirs = {"Authorization": f"Bearer {keys.create('other', Scope.WRITE)[1]}"}
    get, delete = site.client.get, site.client.delete

    assert get("/v1/documents/lamp", headers=mine).status_code == 200
    assert get("/v1/documents/lamp", headers=theirs).status_code == 404
    assert delete("/v1/documents/lamp", headers=theirs).status_code == 404
    assert get("/v1/documents", headers=theirs).json()["documents"] == []
    assert get("/v1/documents").status_code == 401
    assert delete("/v1/documents/lamp", headers=mine).status_code == 403
    site.tenants.close()


def test_of_who_may_not_write_nothing_is_read(tmp_path: Path) -> None:
    keys = KeyStore(tmp_path / "keys.json")
    site = Site(tmp_path / "home", keys)
    reader = {"Authorization": f"Bearer {keys.create('default', Scope.READ)[1]}"}

    for headers, status in ((reader, 403), ({}, 401)):
        response = site.client.post(
            "/v1/documents", content=b"{", headers={**headers, "Content-Type": "application/json"}
        )
        assert response.status_code == status
    site.tenants.close()


def test_openapi_knows_both_kinds_of_bodies(site: Site) -> None:
    content = site.client.get("/openapi.json").json()["paths"]["/v1/documents"]["post"][
        "requestBody"
    ]["content"]

    assert set(content) == {"application/json", "multipart/form-data"}
    assert content["application/json"]["schema"]["oneOf"][0]["required"] == ["text"]
