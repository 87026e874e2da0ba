"""Errors to responses: problem+json (RFC 9457), or on the OpenAI routes what they have."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from hybridqa import errors

_log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
OPENAI_PATHS = ("/v1/chat/", "/v1/models")

_STATUSES: Mapping[type[Exception], int] = {
    errors.UnknownDocumentError: 404,
    errors.UnknownAdapterError: 404,
    errors.UnknownJobError: 404,
    errors.NoLiveAdapterError: 409,
    errors.AdapterMismatchError: 409,
    errors.PolicyConflictError: 412,
    errors.InputError: 422,
    errors.DocumentTooLongError: 413,
    errors.UnauthenticatedError: 401,
    errors.ForbiddenError: 403,
    errors.OverloadedError: 429,
    errors.StaleDocumentError: 503,
    errors.IndexUnavailableError: 503,
}
_ROUTES = (
    ("`hybridqa documents list` shows", "`GET /v1/documents` lists"),
    ("`hybridqa adapters list` shows", "`GET /v1/adapters` lists"),
    ("The list of jobs shows", "`GET /v1/jobs` lists"),
    ("ask with `--arm retrieval`", "ask with `arm: retrieval`"),
    ("with `--internalizer associative`", "with `internalizer: associative`"),
    ("with `--internalizer none`", "with `internalizer: none`"),
    (", or raise `answer: max_question_chars` in the config", ""),
    ("Set the terminal to UTF-8, or type it anew", "Send text without lone surrogates"),
)
"""What the command line is told, and what is told here."""
_WORDS = re.compile("(?<=[a-z])(?=[A-Z])")


class Problem(BaseModel):
    """An error, as RFC 9457 has it."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: list[dict[str, Any]] | None = None


class OpenAIError(Exception):
    """An error that only the OpenAI routes know."""

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None
    ) -> None:
        self.status, self.param, self.code = status, param, code
        super().__init__(message)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI shall say of a route's errors; those that all routes have are added."""
    every = {*statuses, 400, 401, 403, 413, 422, 429, 500, 503}
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in sorted(every)
    }


def status_of(error: Exception) -> int:
    """Return the status code of an error: 500 for those that are nobody's fault but ours."""
    if isinstance(error, HTTPException):
        return error.status_code
    if isinstance(error, OpenAIError):
        return error.status
    return next((_STATUSES[kind] for kind in type(error).mro() if kind in _STATUSES), 500)


def problem(error: Exception, request_id: str) -> dict[str, Any]:
    """Return an error as problem+json; ours are not told apart, the log has them."""
    status = status_of(error)
    kind, title, detail = "internal", HTTPStatus(status).phrase, str(error)
    if status == 500:
        detail = (
            f"This should not happen. Please report it with the request id {request_id}, by which "
            "the service's log tells more."
        )
    elif isinstance(error, HTTPException):
        kind, detail = title.casefold().replace(" ", "-"), str(error.detail)
    else:
        kind = _WORDS.sub("-", type(error).__name__.removesuffix("Error")).casefold()
    return {
        "type": f"urn:hybridqa:problem:{kind}",
        "title": title,
        "status": status,
        "detail": reworded(detail),
        "instance": f"urn:hybridqa:request:{request_id}",
    }


def openai_error(error: Exception, request_id: str) -> dict[str, Any]:
    """Return the same in OpenAI's shape."""
    return _openai(problem(error, request_id), error)


def reworded(message: str) -> str:
    """Return a message that names routes where it named commands, without lone surrogates."""
    for command, route in _ROUTES:
        message = message.replace(command, route)
    return message.encode("utf-8", "replace").decode()


def install(app: FastAPI) -> None:
    """Let an app answer errors like this, and say so in its OpenAPI."""
    described = app.openapi

    def with_problem() -> dict[str, Any]:
        schema = described()
        schemas = schema.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = Problem.model_json_schema()
        return schema

    app.openapi = with_problem  # type: ignore[method-assign]  # FastAPI's documented way
    app.add_exception_handler(RequestValidationError, _invalid)
    for kind in (errors.HybridQAError, OpenAIError, HTTPException, Exception):
        app.add_exception_handler(kind, explain)


def request_id_of(request: Request) -> str:
    return str(getattr(request.state, "request_id", "unknown"))


def explain(request: Request, error: Exception) -> Response:
    """Return an error as a response; what is our own fault is logged."""
    body = problem(error, request_id_of(request))
    if body["status"] == 500:
        _log.error("Request %s failed.", request_id_of(request), exc_info=error)
    return _response(request, body, error)


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found: Sequence[dict[str, Any]] = [
        # What was sent is not sent back: it may be huge, or no JSON.
        {"where": _printable(".".join(map(str, each["loc"]))), "what": _printable(each["msg"])}
        for each in error.errors()[:20]
    ]
    first = found[0] if found else {"where": "body", "what": "invalid"}
    body = {
        "type": "urn:hybridqa:problem:invalid-request",
        "title": HTTPStatus(422).phrase,
        "status": 422,
        "detail": f"`{first['where']}`: {first['what']}.",
        "instance": f"urn:hybridqa:request:{request_id_of(request)}",
        "errors": found,
    }
    return _response(request, body, error)


def _printable(text: str) -> str:
    return text[:300].encode("utf-8", "replace").decode()


def _response(request: Request, body: dict[str, Any], error: Exception) -> Response:
    status = int(body["status"])
    headers = dict(getattr(error, "headers", None) or {})
    if status == 401:
        headers["WWW-Authenticate"] = getattr(error, "challenge", "Bearer")
    if isinstance(error, errors.OverloadedError):
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    elif status in {429, 503}:
        headers["Retry-After"] = "1"
    if request.scope["path"].startswith(OPENAI_PATHS):
        # What is invalid is a bad request there.
        return JSONResponse(_openai(body, error), 400 if status == 422 else status, headers)
    return JSONResponse(body, status, headers, media_type=MEDIA_TYPE)


def _openai(body: Mapping[str, Any], error: Exception) -> dict[str, Any]:
    status = int(body["status"])
    kind = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}.get(
        status, "invalid_request_error" if status < 500 else "server_error"
    )
    code = {401: "invalid_api_key", 429: "rate_limit_exceeded"}.get(status)
    where = body["errors"][0]["where"].removeprefix("body.") if body.get("errors") else None
    return {
        "error": {
            "message": body["detail"],
            "type": kind,
            "param": _printable(getattr(error, "param", None) or where or "") or None,
            "code": getattr(error, "code", None) or code,
        }
    }
