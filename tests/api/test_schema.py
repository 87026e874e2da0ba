"""Schemathesis asks everything that our OpenAPI allows, and much that it does not."""

import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from hybridqa.api.app import create_app, create_service
from hybridqa.types import Document
from tests.api.conftest import BRIDGE, LAMP, fake_config, fake_models

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
STREAMS = ("/v1/jobs/{job_id}/events",)
"""Not an answer but a stream; tested where jobs are."""


def sent(folder: Path, examples: int) -> Counter[str]:
    """Send cases of every operation; returns how many, by operation."""
    config = fake_config()
    service = create_service(folder, config, fake_models(config), auth=False)
    app = create_app(service)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", http="h11"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    qa = service.tenants.get("default").qa
    for key, text in {"lamp": LAMP, "bridge": BRIDGE}.items():
        qa.ingest(Document(id=key, text=text, title=key, source=key))
    schema = schemathesis.openapi.from_dict(app.openapi())
    counts: Counter[str] = Counter()
    try:
        for found in schema.get_all_operations():
            operation = found.ok()
            if operation.path in STREAMS:
                continue

            _send(operation, url, examples, counts)
    finally:
        server.should_exit = True
        thread.join(20)
    return counts


def _send(operation: Any, url: str, examples: int, counts: Counter[str]) -> None:
    good = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    bad = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)

    def send(case: schemathesis.Case) -> None:
        counts[operation.label] += 1
        case.validate_response(case.call(base_url=url), checks=CHECKS)

    for strategy in (good, bad):
        limited = settings(
            max_examples=examples,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        with suppress(Unsatisfiable):  # nothing can be wrong about what takes no arguments
            limited(given(case=strategy)(send))()


@pytest.mark.filterwarnings("ignore")
def test_nothing_that_is_sent_breaks_the_service(tmp_path: Path) -> None:
    counts = sent(tmp_path / "home", 15)

    assert len(counts) >= 18
    assert min(counts.values()) >= 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.filterwarnings("ignore")
def test_nothing_that_is_sent_at_length_breaks_the_service(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = sent(tmp_path / "home", 500)

    with capsys.disabled():
        print(f"\n{counts.total()} cases of {len(counts)} operations")  # noqa: T201
