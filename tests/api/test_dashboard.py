import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from hybridqa.api.dashboard import create_dashboard
from hybridqa.errors import InputError
from hybridqa.eval.rows import Run
from hybridqa.eval.summary import summarize
from tests.eval.synthetic_run import make_run, write_run

ARMS = ("context", "retrieval+quote", "auto")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two runs of the same questions, one of others, and one that was killed."""
    for name, questions, seed in (("new", 14, 0), ("old", 14, 1), ("others", 7, 0)):
        write_run(tmp_path / name, make_run(questions, ARMS, seed, path=name))
    killed = write_run(tmp_path / "killed", make_run(7, ARMS))
    manifest = json.loads((killed / "manifest.json").read_text())
    (killed / "manifest.json").write_text(json.dumps(manifest | {"complete": False}))
    return tmp_path


@pytest.fixture
def client(folder: Path) -> TestClient:
    return TestClient(create_dashboard(folder))


def counting(calls: list[str]) -> Callable[[Run], Mapping[str, Any]]:
    def figures(run: Run) -> Mapping[str, Any]:
        calls.append(run.path)
        return summarize(run).as_dict()

    return figures


def test_list_links_runs_and_tells_why_others_cannot_be_shown(
    folder: Path, client: TestClient
) -> None:
    (folder / "old" / "scores.jsonl").write_text("{}\n")

    page = client.get("/")

    assert page.status_code == 200
    assert 'href="runs/new"' in page.text
    assert 'href="runs/old"' not in page.text
    assert "old/scores.jsonl" in page.text  # named with what is wrong in it
    assert "is not complete" in page.text
    assert "--resume" in page.text


def test_page_is_that_of_the_run(client: TestClient) -> None:
    page = client.get("/runs/new")

    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert 'id="data"' in page.text


def test_two_runs_are_compared_or_it_is_told_why_not(client: TestClient) -> None:
    assert client.get("/runs/new/against/old").status_code == 200

    refused = client.get("/runs/new/against/others")

    assert refused.status_code == 422
    assert "14 and 7 questions, of which 7 are the same" in refused.text


def test_incomplete_run_is_explained(client: TestClient) -> None:
    page = client.get("/runs/killed")

    assert page.status_code == 422
    assert "--resume" in page.text


@pytest.mark.parametrize(
    "path",
    [
        "/runs/nobody",
        "/runs/%2e%2e",
        "/runs/..%2f..%2fetc",
        "/runs/new%2f..%2fold",
        "/runs/new/against/%2e%2e",
        "/runs//etc/passwd",
        "/docs",
        "/openapi.json",
    ],
)
def test_nothing_but_the_runs_can_be_reached(client: TestClient, path: str) -> None:
    page = client.get(path, follow_redirects=False)

    assert page.status_code == 404
    assert "There is no such page or run" in page.text


def test_names_are_text_in_the_list(folder: Path, client: TestClient) -> None:
    write_run(folder / '"><script>alert(1)<', make_run(7, ARMS))

    page = client.get("/").text

    assert "<script" not in page
    assert 'href="runs/%22%3E%3Cscript%3Ealert%281%29%3C"' in page
    assert client.get("/runs/%22%3E%3Cscript%3Ealert%281%29%3C").status_code == 200


def test_pages_are_made_anew_only_when_files_change(folder: Path) -> None:
    calls: list[str] = []
    client = TestClient(create_dashboard(folder, counting(calls)))
    first = client.get("/runs/new").text
    assert client.get("/runs/new").text == first
    assert len(calls) == 1

    write_run(folder / "new", make_run(14, ARMS, seed=5))
    os.utime(folder / "new" / "manifest.json", ns=(1, 1))  # even if the clock is coarse

    assert client.get("/runs/new").text != first
    assert len(calls) == 2


def test_app_works_below_a_prefix_through_relative_links(folder: Path) -> None:
    service = FastAPI()
    service.mount("/team/quality", create_dashboard(folder))
    client = TestClient(service)

    listing = client.get("/team/quality")  # redirected to where relative links hold

    assert str(listing.url).endswith("/team/quality/")
    for link in ("runs/new", "runs/new/against/old"):
        assert f'href="{link}"' in listing.text
        shown = client.get(urljoin(str(listing.url), link))
        assert shown.status_code == 200
    assert client.get("/team/quality/runs/nobody").status_code == 404


def test_single_run_is_a_list_of_one(folder: Path) -> None:
    client = TestClient(create_dashboard(folder / "new"))

    assert 'href="runs/new"' in client.get("/").text
    assert client.get("/runs/new").status_code == 200


def test_empty_and_missing_folders_are_explained(tmp_path: Path) -> None:
    assert "hybridqa eval run" in TestClient(create_dashboard(tmp_path)).get("/").text
    with pytest.raises(InputError, match="There is no folder"):
        create_dashboard(tmp_path / "nowhere")
