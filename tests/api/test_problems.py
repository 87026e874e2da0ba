import logging
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient

from hybridqa import errors
from hybridqa.api import problems
from hybridqa.api.limits import RequestIds
from hybridqa.api.problems import OpenAIError
from tests.api.conftest import Serving

RAISED: list[tuple[Exception, int]] = [
    (errors.QuestionError("Empty."), 422),
    (errors.ConfigError("Unknown key."), 422),
    (errors.UnknownDocumentError("a"), 404),
    (errors.UnknownAdapterError("a"), 404),
    (errors.UnknownJobError("a"), 404),
    (errors.NoLiveAdapterError("adapter", "a"), 409),
    (errors.AdapterMismatchError("a", "b", "c"), 409),
    (errors.PolicyConflictError(1, 2), 412),
    (errors.DocumentTooLongError("a", 9, 8), 413),
    (errors.UnauthenticatedError("No key."), 401),
    (errors.ForbiddenError("Only reads."), 403),
    (errors.OverloadedError("questions", 4, 7), 429),
    (errors.StaleDocumentError("Changed."), 503),
    (errors.IndexUnavailableError("Down."), 503),
]
SECRET = "/home/somebody/secret.db"
OURS = [
    errors.StoreError(f"`{SECRET}` cannot be read."),
    errors.CorruptAdapterError(f"`{SECRET}` is damaged."),
    KeyError(SECRET),
    RecursionError(SECRET),
]


def raising(error: Exception) -> TestClient:
    """Return a client of two routes that raise it: one of ours, one as OpenAI has them."""
    app = FastAPI()
    app.add_middleware(RequestIds)
    problems.install(app)

    @app.get("/v1/ours")
    @app.get("/v1/models")
    def fail() -> None:
        raise error

    return TestClient(app, raise_server_exceptions=False)


@pytest.mark.parametrize(("error", "status"), RAISED, ids=lambda value: type(value).__name__)
def test_every_error_has_its_status_and_tells_its_message(error: Exception, status: int) -> None:
    response = raising(error).get("/v1/ours", headers={"X-Request-ID": "r1"})

    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/problem+json"
    told = response.json()
    assert told["status"] == status
    assert told["type"].startswith("urn:hybridqa:problem:")
    assert told["instance"] == "urn:hybridqa:request:r1"
    assert told["detail"].split(".")[0] == str(error).split(".")[0]
    assert "hybridqa " not in told["detail"], "names a command"


def test_no_two_errors_have_the_same_type() -> None:
    types = [raising(error).get("/v1/ours").json()["type"] for error, _ in RAISED]

    assert len(set(types)) == len(types)
    assert types[2] == "urn:hybridqa:problem:unknown-document"


@pytest.mark.parametrize("error", OURS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("path", ["/v1/ours", "/v1/models"])
def test_what_is_our_fault_is_logged_by_request_id_and_not_told(
    error: Exception, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "hybridqa"):
        response = raising(error).get(path, headers={"X-Request-ID": "r2"})

    assert response.status_code == 500
    assert response.headers["X-Request-ID"] == "r2"
    assert SECRET not in response.text
    assert "r2" in response.text
    assert "Request r2 failed" in caplog.text
    assert SECRET in caplog.text


def test_messages_name_the_route_instead_of_the_command() -> None:
    def told(error: Exception) -> str:
        return str(raising(error).get("/v1/ours").json()["detail"])

    assert told(errors.UnknownDocumentError("a")).endswith("`GET /v1/documents` lists all ids.")
    assert told(errors.UnknownAdapterError("a")).endswith("`GET /v1/adapters` lists all ids.")
    assert "--" not in told(errors.NoLiveAdapterError("adapter", "a"))
    assert "--" not in told(errors.NoLiveAdapterError("adapter", None))
    assert "--" not in told(errors.DocumentTooLongError("a", 9, 8))


def test_who_may_come_again_is_told_when() -> None:
    overloaded = raising(errors.OverloadedError("questions", 4, 7)).get("/v1/ours")
    stale = raising(errors.StaleDocumentError("Changed.")).get("/v1/ours")
    missing = raising(errors.UnknownJobError("a")).get("/v1/ours")

    assert overloaded.headers["Retry-After"] == "7"
    assert int(stale.headers["Retry-After"]) >= 1
    assert "Retry-After" not in missing.headers


def test_who_is_not_known_is_told_how_to_be() -> None:
    response = raising(errors.UnauthenticatedError("No key.")).get("/v1/ours")

    assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("error", "status", "kind", "code"),
    [
        (errors.UnauthenticatedError("No."), 401, "authentication_error", "invalid_api_key"),
        (errors.ForbiddenError("No."), 403, "permission_error", None),
        (errors.OverloadedError("q", 1, 1), 429, "rate_limit_error", "rate_limit_exceeded"),
        (errors.QuestionError("Empty."), 400, "invalid_request_error", None),
        (errors.UnknownDocumentError("a"), 404, "invalid_request_error", None),
        (OpenAIError(400, "No.", "n", "unsupported"), 400, "invalid_request_error", "unsupported"),
        (KeyError("x"), 500, "server_error", None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_openais_routes_tell_errors_in_openais_shape(
    error: Exception, status: int, kind: str, code: str | None
) -> None:
    response = raising(error).get("/v1/models")

    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/json"
    told = response.json()["error"]
    assert set(told) == {"message", "type", "param", "code"}
    assert (told["type"], told["code"]) == (kind, code)


def test_lone_surrogates_in_a_message_do_not_break_the_answer() -> None:
    response = raising(errors.UnknownDocumentError("a\ud800b")).get("/v1/ours")

    assert response.status_code == 404
    assert "a?b" in response.json()["detail"]


def test_what_is_no_route_is_a_problem_too(serving: Serving) -> None:
    missing, wrong = serving.client.get("/v1/nothing"), serving.client.patch("/v1/answers")

    assert (missing.status_code, wrong.status_code) == (404, 405)
    assert missing.headers["Content-Type"] == "application/problem+json"
    assert wrong.headers["Content-Type"] == "application/problem+json"
    assert wrong.headers["Allow"] == "POST"


def test_an_invalid_body_is_told_field_by_field(serving: Serving) -> None:
    response = serving.client.post("/v1/answers", json={"question": 7, "arm": "leg", "more": 1})

    assert response.status_code == 422
    told: dict[str, Any] = response.json()
    assert {each["where"] for each in told["errors"]} == {"body.question", "body.arm", "body.more"}
    assert "body.question" in told["detail"]


def test_openapi_tells_what_errors_look_like(serving: Serving) -> None:
    schema = serving.client.get("/openapi.json").json()

    assert "Problem" in schema["components"]["schemas"]
    found = schema["paths"]["/v1/documents/{document_id}"]["get"]["responses"]["404"]
    assert list(found["content"]) == ["application/problem+json"]


def test_an_error_in_a_dependency_is_told_like_any_other() -> None:
    app = FastAPI()
    app.add_middleware(RequestIds)
    problems.install(app)

    def let_in() -> None:
        raise errors.ForbiddenError("Only reads.")

    @app.get("/", dependencies=[Depends(let_in)])
    def show() -> None: ...

    assert TestClient(app).get("/").json()["detail"] == "Only reads."
