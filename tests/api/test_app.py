import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from hybridqa.api.app import create_app, create_service
from hybridqa.errors import HomeInUseError, ModelError
from hybridqa.wiring import HybridQA
from tests.api.conftest import BASE, LAMP, Serving, fake_config, fake_models

WEIGHT = {"question": "What does the Corvane lamp weigh?"}
PUBLIC = {"/healthz", "/readyz"}


def test_a_ready_service_says_so(serving: Serving) -> None:
    assert serving.service.ready.wait(10)

    assert serving.client.get("/healthz").json() == {"status": "alive"}
    assert serving.client.get("/readyz").json() == {"status": "ready"}


def test_it_is_alive_before_its_models_are_loaded(tmp_path: Path) -> None:
    config = fake_config()
    models, may_load = fake_models(config), threading.Event()

    class SlowModels(type(models)):  # type: ignore[misc]
        @property
        def base(self) -> object:
            may_load.wait(10)
            return BASE

    models.__class__ = SlowModels
    with TestClient(open_app(tmp_path, models), base_url="http://localhost") as client:
        early = client.get("/readyz")
        assert client.get("/healthz").status_code == 200
        may_load.set()
        until = time.monotonic() + 10
        while client.get("/readyz").status_code != 200 and time.monotonic() < until:
            time.sleep(0.01)
        late = client.get("/readyz")

    assert (early.status_code, early.json()) == (503, {"status": "loading"})
    assert (late.status_code, late.json()) == (200, {"status": "ready"})


def test_models_that_cannot_be_loaded_leave_it_alive_but_not_ready(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = fake_config()
    models = fake_models(config)

    class BrokenModels(type(models)):  # type: ignore[misc]
        @property
        def base(self) -> object:
            raise ModelError("The model `gone` is not there.")

    models.__class__ = BrokenModels
    with TestClient(open_app(tmp_path, models), base_url="http://localhost") as client:
        until = time.monotonic() + 10
        while "`gone`" not in caplog.text and time.monotonic() < until:
            time.sleep(0.01)
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 503

    assert "The models cannot be loaded" in caplog.text


def test_a_stopping_service_is_not_ready(serving: Serving) -> None:
    serving.service.stopping.set()

    assert serving.client.get("/readyz").json() == {"status": "stopping"}
    assert serving.client.get("/healthz").status_code == 200


def test_it_has_its_home_to_itself_and_gives_it_back(tmp_path: Path) -> None:
    up = Serving(tmp_path, auth=False, config=fake_config())
    with pytest.raises(HomeInUseError):
        HybridQA(tmp_path)
    up.close()

    HybridQA(tmp_path).close()


def test_as_many_questions_are_answered_at_a_time_as_is_promised(tmp_path: Path) -> None:
    count = 50  # more than the threads that anyio has by itself
    config = fake_config(max_asking=count, max_asking_by_tenant=count)
    up = Serving(tmp_path, auth=False, config=config)
    may_end, at_work = threading.Event(), set[int]()

    def answer(question: str, texts: Sequence[str]) -> str:
        at_work.add(threading.get_ident())
        may_end.wait(20)
        return ""

    up.know(lamp=LAMP)
    up.answer = answer
    asked = {**WEIGHT, "arm": "retrieval"}
    threads = [
        threading.Thread(target=up.client.post, args=["/v1/answers"], kwargs={"json": asked})
        for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 20
    while len(at_work) < count and time.monotonic() < until:
        time.sleep(0.01)
    others = up.client.get("/v1/documents")
    refused = up.client.post("/v1/answers", json=asked)
    may_end.set()
    for thread in threads:
        thread.join()
    up.close()

    assert len(at_work) == count
    assert others.status_code == 200
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) >= 1


def test_all_but_health_page_and_description_need_a_key(guarded: Serving) -> None:
    schema = guarded.client.get("/openapi.json").json()

    for path, methods in schema["paths"].items():
        for method in methods:
            response = guarded.client.request(method, path)
            assert (response.status_code == 401) == (path not in PUBLIC), f"{method} {path}"
    assert guarded.client.get("/").status_code == 200
    assert guarded.client.get("/dashboard/").status_code == 401


def test_openapi_describes_what_is_promised(serving: Serving) -> None:
    schema = serving.client.get("/openapi.json").json()

    assert schema["info"]["title"] == "hybridqa"
    assert {
        "/v1/answers",
        "/v1/documents",
        "/v1/documents/{document_id}",
        "/v1/jobs",
        "/v1/jobs/{job_id}",
        "/v1/jobs/{job_id}/events",
        "/v1/adapters",
        "/v1/adapters/{adapter_id}",
        "/v1/adapters/{adapter_id}/export",
        "/v1/routes/explain",
        "/v1/policy",
        "/v1/policy/versions",
        "/v1/me",
        "/v1/chat/completions",
        "/v1/models",
        "/v1/models/{model}",
        "/healthz",
        "/readyz",
        "/metrics",
    } <= set(schema["paths"])
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            assert operation.get("description") or operation.get("summary"), f"{method} {path}"


def test_nothing_is_loaded_from_elsewhere(serving: Serving) -> None:
    assert serving.client.get("/docs").status_code == 404
    assert serving.client.get("/redoc").status_code == 404


def open_app(home: Path, models: object) -> object:
    return create_app(create_service(home, fake_config(), models, auth=False))  # type: ignore[arg-type]
