"""A service in a process of its own, on an empty home, and its clients."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from hybridqa.errors import HybridQAError
from hybridqa.types import Document

_START_S = 180.0
_ANSWER_S = 300.0


@dataclass(frozen=True)
class Running:
    """A service that is ready."""

    url: str
    pid: int

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=_ANSWER_S)

    def memory_bytes(self) -> int | None:
        """Return what it holds in memory; `None` where the system does not tell."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return None
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024


@contextmanager
def running(home: Path, config: Path | None = None) -> Iterator[Running]:
    """Start `hybridqa serve` on a free port and end it with the block.

    Raises:
        HybridQAError: It does not get ready.
    """
    command = [sys.executable, "-m", "hybridqa", "--home", str(home), "--json"]
    command += ["--config", str(config)] if config else []
    command += ["serve", "--no-auth", "--port", "0"]
    with started(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        told = process.stdout.readline()
        service = Running(str(json.loads(told).get("url")) if told else "", process.pid)
        with service.client() as client:
            if not told or not ready(client, "readyz", process, _START_S):
                raise HybridQAError(
                    f"`hybridqa serve` did not get ready within {_START_S:.0f} s (exit code "
                    f"{process.poll()}). Start it by hand to see why."
                )
        yield service


@contextmanager
def started(command: Sequence[str], **settings: Any) -> Iterator[subprocess.Popen[str]]:
    """Start a server, and end it with the block.

    Args:
        command: As for `subprocess.Popen`.
        settings: See there.
    """
    process = subprocess.Popen(command, text=True, **settings)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def ready(client: httpx.Client, path: str, process: subprocess.Popen[str], seconds: float) -> bool:
    """Tell whether a server answers at a path before some time is over or its process ends."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        try:
            if client.get(path).status_code == 200:
                return True
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    return False


def take_in(client: httpx.Client, documents: Sequence[Document]) -> None:
    """Send documents, and wait until they are in.

    Raises:
        HybridQAError: One is refused.
    """
    sent = [{"id": d.id, "title": d.title, "text": d.text} for d in documents]
    answer = client.post("v1/documents", json={"documents": sent})
    answer.raise_for_status()
    job = answer.json()
    while job["state"] in {"queued", "running"}:
        time.sleep(0.2)
        job = client.get(f"v1/jobs/{job['id']}").raise_for_status().json()
    errors = [result["error"] for result in job["results"] if result.get("error")]
    if errors:
        raise HybridQAError(f"{len(errors)} documents were not taken in. The first: {errors[0]}")


@dataclass
class Load:
    """What clients saw."""

    seconds: list[float] = field(default_factory=list)
    """Of each answered question."""
    failed: list[str] = field(default_factory=list)
    """Why a question has no answer."""
    wall_s: float = 0.0

    def add(self, other: Load) -> None:
        """Take in what clients saw after this."""
        self.seconds += other.seconds
        self.failed += other.failed
        self.wall_s += other.wall_s

    @property
    def per_second(self) -> float:
        return len(self.seconds) / self.wall_s


Asked = tuple[str, str]
"""A document's id, and a question about it."""


def ask(client: httpx.Client, asked: Asked) -> None:
    """Ask a question of one document.

    Raises:
        httpx.HTTPError: There is no answer.
    """
    document, question = asked
    client.post(
        "v1/answers", json={"question": question, "documents": [document]}
    ).raise_for_status()


def drive(
    service: Running, by_client: Sequence[Iterator[Asked]], until: Callable[[], bool]
) -> Load:
    """Let clients ask, each one question after another, until they have no more or it is over."""
    load, lock = Load(), threading.Lock()

    def work(asked: Iterator[Asked]) -> None:
        with service.client() as client:
            for one in asked:
                if until():
                    return
                began = time.perf_counter()
                try:
                    ask(client, one)
                except httpx.HTTPError as exc:
                    with lock:
                        load.failed.append(f"{type(exc).__name__}: {exc}")
                    continue
                with lock:
                    load.seconds.append(time.perf_counter() - began)

    began = time.perf_counter()
    with ThreadPoolExecutor(len(by_client)) as pool:
        list(pool.map(work, by_client))
    load.wall_s = time.perf_counter() - began
    return load
