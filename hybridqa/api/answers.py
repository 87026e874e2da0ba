"""Ask: as JSON, or as events that tell the route before the answer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from hybridqa.api import sse
from hybridqa.api.problems import problem, problems, request_id_of
from hybridqa.api.schemas import AnswerBody, QuestionBody
from hybridqa.api.security import Access, Caller
from hybridqa.api.service import Service
from hybridqa.engines.request import check_documents, checked_question
from hybridqa.engines.route import Routed
from hybridqa.engines.trace import Trace
from hybridqa.serialize import answer_dict, decision_dict
from hybridqa.service.asking import Event, events
from hybridqa.types import Style

_WORD_S = 1.0
"""So long a stream may keep a thread before it looks whether the service stops."""


class AskBody(QuestionBody):
    style: Style | None = None
    """`null` takes the policy's."""
    stream: bool = False
    """Server-sent events: `route`, `token` (once the answer has passed its checks), `citation`,
    `done` (the whole answer) or `error`."""


def router(service: Service, access: Access) -> APIRouter:
    """Return the route of questions."""
    routes = APIRouter(tags=["questions"])

    @routes.post(
        "/v1/answers",
        response_model=AnswerBody,
        responses={
            **problems(404, 409),
            200: {
                "description": "The answer, or events if `stream` is true.",
                "content": {"text/event-stream": {}},
            },
        },
    )
    def ask(request: Request, body: AskBody, caller: Caller = Depends(access.reader)) -> Response:
        """Answer a question; its route, citations and timings come with it."""
        request_id = request_id_of(request)
        if body.stream or "text/event-stream" in request.headers.get("Accept", ""):
            # What can be told before the stream begins is told by the status.
            checked_question(body.question, caller.tenant.qa.config.answer.max_question_chars)
            check_documents(body.documents, caller.tenant.qa.catalog)
            told = listen(service, caller, body)
            return sse.streamed(_told(told, body.question, request_id, service))
        answer = traced(service, caller, body).result()
        return JSONResponse({"id": request_id, **answer_dict(answer)})

    return routes


def traced(service: Service, caller: Caller, body: AskBody) -> Trace:
    """Ask, and observe what becomes of it.

    Raises:
        OverloadedError: Too much is being asked.
        HybridQAError: As `HybridQA.trace`.
    """
    with service.gate.entered(caller.tenant.name):
        return _observed(service, caller, body, lambda routed: None)


def listen(service: Service, caller: Caller, body: AskBody) -> Iterator[Event | None]:
    """Ask, and return what happens as it does; `None` where for a second nothing does.

    Raises:
        OverloadedError: Too much is being asked.
    """
    return events(
        service.gate,
        caller.tenant.name,
        lambda on_routed: _observed(service, caller, body, on_routed),
    )(_WORD_S)


def _observed(service: Service, caller: Caller, body: AskBody, on_routed: Any) -> Trace:
    began = time.perf_counter()
    try:
        trace = caller.tenant.qa.trace(
            body.question, body.arm, tuple(body.documents), body.style, on_routed
        )
    except Exception as exc:
        service.observe(exc, time.perf_counter() - began)
        raise
    service.observe(trace, time.perf_counter() - began)
    return trace


def _told(
    happened: Iterator[Event | None], question: str, request_id: str, service: Service
) -> Iterator[bytes]:
    quiet_since = time.monotonic()
    for event in happened:
        if event is None:
            if time.monotonic() - quiet_since >= sse.KEEP_ALIVE_S:
                quiet_since = time.monotonic()
                yield sse.KEEP_ALIVE
        elif isinstance(event, Routed):
            yield sse.event("route", decision_dict(question, event.decision))
        else:
            yield from _ended(event, request_id)


def _ended(event: Trace | Exception, request_id: str) -> Iterator[bytes]:
    outcome = event.outcome if isinstance(event, Trace) else event
    if isinstance(outcome, Exception):
        yield sse.event("error", problem(outcome, request_id))
        return
    for piece in pieces(outcome.text):
        yield sse.event("token", {"text": piece})
    answer = {"id": request_id, **answer_dict(outcome)}
    for citation in answer["citations"]:
        yield sse.event("citation", citation)
    yield sse.event("done", answer)


def pieces(text: str) -> list[str]:
    """Return a text in words, each with the space before it; they join to the text."""
    found: list[str] = []
    for char in text:
        if not found or (char.isspace() and not found[-1][-1].isspace()):
            found.append(char)
        else:
            found[-1] += char
    return found
