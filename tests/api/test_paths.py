"""Paths and names made to reach what is not the service's to show."""

import itertools
import time
from typing import Any

import pytest

from tests.api.conftest import LAMP, Serving

SECRET = "the secret of this machine"
HOSTILE = {
    "encoded": "%2e%2e%2f%2e%2e%2fsecret.txt",
    "slashes": "..%2F..%2Fsecret.txt",
    "backslashes": "..%5C..%5Csecret.txt",
    "twice-encoded": "%252e%252e%252fsecret.txt",
    "absolute": "%2Fetc%2Fpasswd",
    "drive": "C:%5Csecret.txt",
    "nul": "lamp%00.txt",
    "line-ends": "lamp%0D%0ASet-Cookie:%20a=b",
    "no-utf8": "%FF%FE",
    "surrogate": "%ED%A0%80",
    "overlong": "%C0%AE%C0%AE%C0%AFsecret.txt",
    "template": "%7B%7Bself%7D%7D",
    "long": "a" * 10_000,
}
ROUTES = [
    ("GET", "/v1/documents/{}"),
    ("DELETE", "/v1/documents/{}"),
    ("GET", "/v1/jobs/{}"),
    ("DELETE", "/v1/jobs/{}"),
    ("GET", "/v1/jobs/{}/events"),
    ("GET", "/v1/adapters/{}"),
    ("POST", "/v1/adapters/{}/export"),
    ("GET", "/v1/models/{}"),
    ("GET", "/dashboard/runs/{}"),
    ("GET", "/dashboard/runs/{}/against/{}"),
    ("GET", "/page/{}"),
    ("GET", "/{}"),
]


@pytest.fixture
def placed(serving: Serving) -> Serving:
    """With a file beside the home and one in it, which no route may show."""
    serving.know(lamp=LAMP)
    for folder in (serving.root, serving.root.parent):
        (folder / "secret.txt").write_text(SECRET)
    return serving


def test_no_path_leads_out(placed: Serving) -> None:
    files = {path: path.read_bytes() for path in placed.root.rglob("*.txt")}
    odd = {}
    for (method, route), (kind, path) in itertools.product(ROUTES, HOSTILE.items()):
        response = placed.client.request(method, route.format(path, path))
        told = response.text
        if response.status_code not in (400, 404, 405, 414, 422):
            odd[method, route, kind] = response.status_code
        if SECRET in told or "root:" in told or str(placed.root) in told:
            odd[method, route, kind] = told
        assert len(told) < 30_000, (method, route, kind)

    assert not odd
    assert {path: path.read_bytes() for path in placed.root.rglob("*.txt")} == files
    assert [each.id for each in placed.service.tenants.get("default").qa.catalog.summaries()] == [
        "lamp"
    ]


@pytest.mark.parametrize(
    "name", ["../../secret.txt", "/etc/passwd.txt", "..\\..\\secret.txt", "a" * 10_000 + ".txt"]
)
def test_names_of_uploads_lead_nowhere(placed: Serving, name: str) -> None:
    before = {path for path in placed.root.parent.rglob("*") if "passwd" in path.name}
    response = placed.client.post("/v1/documents", files={"file": (name, LAMP.encode())})

    assert response.status_code in (202, 400, 422), response.text
    assert (placed.root.parent / "secret.txt").read_text() == SECRET
    assert (placed.root / "secret.txt").read_text() == SECRET
    assert {path for path in placed.root.parent.rglob("*") if "passwd" in path.name} == before
    if response.status_code == 202:
        done = finished(placed, response.json()["id"])
        assert "/" not in done["results"][0]["id"]


def finished(serving: Serving, job: str) -> dict[str, Any]:
    for _ in range(200):
        found: dict[str, Any] = serving.client.get(f"/v1/jobs/{job}").json()
        if found["finished_at"]:
            return found
        time.sleep(0.05)
    raise AssertionError(f"job {job} does not end")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_programs_open_the_dashboard_by_the_same_header(guarded: Serving, scheme: str) -> None:
    assert guarded.service.keys is not None
    client = guarded.client_of("acme")
    key = client.headers["Authorization"].split()[1]

    assert client.get("/dashboard/").status_code == 200
    headers = {"Authorization": f"{scheme} {key}"}
    assert guarded.client.get("/dashboard/", headers=headers).status_code == 200
    headers = {"Authorization": f"{scheme} {key[:-1]}"}
    assert guarded.client.get("/dashboard/", headers=headers).status_code == 401
