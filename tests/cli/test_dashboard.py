import json
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from hybridqa.cli import dashboard
from tests.eval.synthetic_run import make_run, write_run

SERVE = """
import typer
from hybridqa.cli import dashboard
app = typer.Typer()
dashboard.register(app)
app()
"""


@pytest.fixture
def app() -> typer.Typer:
    group = typer.Typer()
    dashboard.register(group)
    return group


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", make_run(7, ("context", "auto")))


def test_dashboard_writes_one_file(app: typer.Typer, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"

    done = CliRunner().invoke(app, ["dashboard", str(run), "--out", str(out), "--json"])

    assert done.exit_code == 0
    assert json.loads(done.stdout) == {"file": str(out), "bytes": out.stat().st_size}
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_dashboard_compares_two_runs(app: typer.Typer, run: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", make_run(7, ("context", "auto"), seed=2))
    asked = write_run(tmp_path / "asked", make_run(14, ("context", "auto")))
    out = tmp_path / "page.html"
    command = ["dashboard", str(run), "--out", str(out), "--against"]

    assert CliRunner().invoke(app, [*command, str(other)]).exit_code == 0
    refused = CliRunner().invoke(app, [*command, str(asked)])

    assert refused.exit_code == 2
    assert "7 and 14 questions, of which 7 are the same" in " ".join(refused.output.split())


def test_missing_run_and_unwritable_file_are_bad_input(
    app: typer.Typer, run: Path, tmp_path: Path
) -> None:
    missing = ["dashboard", str(tmp_path / "no"), "--out", str(tmp_path / "page.html")]
    nowhere = ["dashboard", str(run), "--out", str(tmp_path / "no" / "page.html")]

    for command in (missing, nowhere, ["serve", str(tmp_path / "no")]):
        done = CliRunner().invoke(app, [*command, "--json"])
        assert done.exit_code == 2
        assert str(tmp_path / "no") in json.loads(done.stdout)["error"]["message"]


def test_taken_port_is_bad_input(app: typer.Typer, run: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = CliRunner().invoke(app, ["serve", str(run), "--port", port, "--json"])

    assert done.exit_code == 2
    assert "--port" in json.loads(done.stdout)["error"]["message"]


def test_serve_answers_at_the_address_it_tells(run: Path) -> None:
    command = [sys.executable, "-c", SERVE, "serve", str(run), "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = json.loads(server.stdout.readline())["url"]
            with urllib.request.urlopen(url, timeout=20) as answer:
                page = answer.read().decode()
        finally:
            server.terminate()

    assert "runs/run" in page
