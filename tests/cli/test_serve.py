import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.cli.conftest import Cli

TEXT = "The Corvane lamp was designed by Ilse Marrow in 1987. It weighs 840 grams."
ASKED = {"question": "How much does the Corvane lamp weigh?", "arm": "retrieval", "stream": True}


def test_without_any_key_it_does_not_start(cli: Cli, tmp_path: Path) -> None:
    error = cli("serve", "--home", tmp_path).error

    assert "no API key" in error
    assert "hybridqa keys create" in error


def test_revoked_keys_are_none(cli: Cli, tmp_path: Path) -> None:
    key = cli("keys", "create", "--home", tmp_path, "--json").json
    cli("keys", "revoke", key["id"], "--home", tmp_path)

    assert "no API key" in cli("serve", "--home", tmp_path).error


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_without_keys_only_this_machine_is_served(cli: Cli, tmp_path: Path, host: str) -> None:
    error = cli("serve", "--no-auth", "--host", host, "--home", tmp_path).error

    assert f"`{host}`" in error
    assert "hybridqa keys create" in error


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_taken_port_is_told_and_the_home_is_left_free(
    cli: Cli, tmp_path: Path, host: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        first = cli("serve", "--no-auth", "--host", host, "--port", port, "--home", tmp_path)
        second = cli("serve", "--no-auth", "--host", host, "--port", port, "--home", tmp_path)

    assert f"Port {port}" in first.error
    assert first.error == second.error


def test_errors_are_json_where_that_is_asked_for(cli: Cli, tmp_path: Path) -> None:
    done = cli("serve", "--home", tmp_path, "--json")

    assert done.code == 2
    assert done.json["error"]["type"] == "InputError"


def test_a_home_in_use_is_told(cli: Cli, tmp_path: Path) -> None:
    with serving(tmp_path, "--no-auth", *without_models(tmp_path)):
        assert "in use" in cli("serve", "--no-auth", "--port", "0", "--home", tmp_path).error


def test_ctrl_c_is_no_failure(tmp_path: Path) -> None:
    with serving(tmp_path, "--no-auth", *without_models(tmp_path)) as (process, client):
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 503
        process.send_signal(signal.SIGINT)

        assert process.wait(30) == 0


@pytest.mark.real
def test_told_to_end_it_answers_what_was_asked(cli: Cli, tmp_path: Path) -> None:
    key = cli("keys", "create", "--scope", "write", "--home", tmp_path, "--json").json
    with serving(tmp_path) as (process, client):
        assert client.get("/v1/me").status_code == 401
        client.headers["Authorization"] = f"Bearer {key['secret']}"
        until = time.monotonic() + 120
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < until
            time.sleep(0.1)
        sent = {"id": "lamp", "text": TEXT, "internalizer": "none"}
        job = client.post("/v1/documents", json=sent).headers["Location"]
        with client.stream("GET", f"{job}/events") as events:
            assert '"succeeded"' in events.read().decode()

        with client.stream("POST", "/v1/answers", json=ASKED) as answer:
            lines = answer.iter_lines()
            assert next(lines) == "event: route"
            process.send_signal(signal.SIGTERM)
            rest = list(lines)

        assert "event: done" in rest
        told = json.loads(rest[rest.index("event: done") + 1].removeprefix("data: "))
        assert "840 grams" in told["answer"]
        assert process.wait(60) == 0
        with pytest.raises(httpx.TransportError):
            client.get("/healthz")


def without_models(folder: Path) -> list[str]:
    """Return options of a service that is alive at once, and never gets ready."""
    config = folder / "config.yaml"
    config.write_text("model: {name: /nowhere}\n")
    return ["--config", str(config)]


@contextmanager
def serving(home: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """Run the command in a process of its own, on a free port."""
    command = [sys.executable, "-m", "hybridqa", "serve", "--home", str(home), "--port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*command, "--json", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    ) as process:
        try:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["url"]
            with httpx.Client(base_url=url, timeout=60) as client:
                yield process, client
        finally:
            if process.poll() is None:
                process.kill()
