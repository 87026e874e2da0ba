"""Chat completions as OpenAI's clients ask for them, with citations as annotations.

The last message is the question; what stands before it is not read, as every answer rests on the
documents alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from hybridqa.api import sse
from hybridqa.api.answers import AskBody, listen, pieces, traced
from hybridqa.api.problems import OpenAIError, openai_error, request_id_of
from hybridqa.api.schemas import Strict, Text
from hybridqa.api.security import Access, Caller
from hybridqa.api.service import Service
from hybridqa.engines.request import check_documents, checked_question
from hybridqa.engines.route import Routed
from hybridqa.engines.trace import Trace
from hybridqa.serialize import answer_dict
from hybridqa.types import Answer, Arm, Style

ABSTENTION = "The documents do not say."
MODELS: dict[str, Arm | None] = {"hybridqa": None, **{f"hybridqa-{arm}": arm for arm in Arm}}
"""By name, the arm that answers; `None` lets the router decide."""

_WITHOUT_EFFECT = frozenset(
    [
        "temperature",
        "top_p",
        "seed",
        "user",
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "store",
        "metadata",
        "service_tier",
        "stop",
        "parallel_tool_calls",
        "safety_identifier",
        "prompt_cache_key",
        "reasoning_effort",
        "verbosity",
    ]
)
"""Decoding is greedy, and answers are short quotes."""


class TextPart(BaseModel):
    type: str
    text: str | None = None


class Message(BaseModel):
    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] | None = None


class StreamOptions(BaseModel):
    include_usage: bool = False


class OwnOptions(Strict):
    """What only hybridqa knows; clients send it as `extra_body={"hybridqa": {...}}`."""

    documents: Annotated[list[Text], Field(max_length=100)] = Field(default=[])
    style: Style | None = None


class ChatBody(BaseModel):
    model_config = ConfigDict(extra="allow")

    model: str
    messages: Annotated[list[Message], Field(min_length=1, max_length=1000)]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: int | None = 1
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    response_format: dict[str, Any] | None = None
    hybridqa: OwnOptions = OwnOptions()


class ModelBody(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class ModelsBody(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelBody]


def router(service: Service, access: Access) -> APIRouter:
    """Return the routes that OpenAI's clients know."""
    routes = APIRouter(prefix="/v1", tags=["OpenAI-compatible"])
    errors: dict[int | str, dict[str, Any]] = {
        status: {"description": "As OpenAI tells it.", "model": OpenAIErrorBody}
        for status in (400, 401, 403, 404, 409, 413, 422, 429, 500, 503)
    }

    @routes.get("/models", response_model=ModelsBody, responses=errors)
    def list_models(caller: Caller = Depends(access.reader)) -> dict[str, Any]:
        """List the arms as models."""
        return {"object": "list", "data": [_model(name) for name in MODELS]}

    @routes.get("/models/{model}", response_model=ModelBody, responses=errors)
    def show_model(model: str, caller: Caller = Depends(access.reader)) -> dict[str, Any]:
        """Show an arm as a model."""
        _arm(model)
        return _model(model)

    @routes.post(
        "/chat/completions",
        responses={
            **errors,
            200: {
                "description": "A chat completion, or chunks of it if `stream` is true.",
                "content": {
                    "application/json": {"schema": {"type": "object"}},
                    "text/event-stream": {},
                },
            },
        },
    )
    def complete(
        request: Request, body: ChatBody, caller: Caller = Depends(access.reader)
    ) -> Response:
        """Answer the last message from the documents."""
        asked = AskBody(
            question=_question(body),
            arm=_arm(body.model),
            documents=body.hybridqa.documents,
            style=body.hybridqa.style,
        )
        _refuse_unsupported(body, service.tenants.config.answer.max_tokens)
        reply = _Reply(request, body.model)
        if not body.stream:
            return JSONResponse(reply.whole(traced(service, caller, asked).result()))
        checked_question(asked.question, service.tenants.config.answer.max_question_chars)
        check_documents(asked.documents, caller.tenant.qa.catalog)
        with_usage = bool(body.stream_options and body.stream_options.include_usage)
        return sse.streamed(reply.chunks(listen(service, caller, asked), with_usage))

    return routes


class OpenAIErrorBody(BaseModel):
    error: dict[str, str | None]


class _Reply:
    """One completion."""

    def __init__(self, request: Request, model: str) -> None:
        self._id, self._model = f"chatcmpl-{request_id_of(request)}", model
        self._request_id = request_id_of(request)
        self._url, self._created = str(request.base_url), int(time.time())

    def whole(self, answer: Answer) -> dict[str, Any]:
        message = {
            "role": "assistant",
            "content": answer.text or ABSTENTION,
            "refusal": None,
            "annotations": self._annotations(answer),
        }
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        return {
            **self._head("chat.completion"),
            "choices": [choice],
            "usage": _usage(answer),
            "hybridqa": {"id": self._request_id, **answer_dict(answer)},
        }

    def chunks(self, happened: Iterator[Any], with_usage: bool) -> Iterator[bytes]:
        """Return server-sent events; the answer's words come once it has passed its checks."""
        yield self._chunk({"role": "assistant", "content": ""})
        quiet_since = time.monotonic()
        for event in happened:
            if event is None and time.monotonic() - quiet_since >= sse.KEEP_ALIVE_S:
                quiet_since = time.monotonic()
                yield sse.KEEP_ALIVE
            if event is None or isinstance(event, Routed):
                continue
            outcome = event.outcome if isinstance(event, Trace) else event
            if isinstance(outcome, Exception):
                yield _data(openai_error(outcome, self._request_id))
                break
            for piece in pieces(outcome.text or ABSTENTION):
                yield self._chunk({"content": piece})
            last = {
                **self._head("chat.completion.chunk"),
                "choices": [
                    {
                        "index": 0,
                        "delta": {"annotations": self._annotations(outcome)},
                        "finish_reason": "stop",
                    }
                ],
                "hybridqa": {"id": self._request_id, **answer_dict(outcome)},
            }
            yield _data(last)
            if with_usage:
                head = self._head("chat.completion.chunk")
                yield _data({**head, "choices": [], "usage": _usage(outcome)})
        yield b"data: [DONE]\n\n"

    def _chunk(self, delta: dict[str, Any]) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": None}
        return _data({**self._head("chat.completion.chunk"), "choices": [choice]})

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._model}

    def _annotations(self, answer: Answer) -> list[dict[str, Any]]:
        """Return where the answer stands; its documents are named by URLs of this service."""
        return [
            {
                "type": "url_citation",
                "url_citation": {
                    "start_index": 0,
                    "end_index": len(answer.text),
                    "title": citation.document_id,
                    "url": f"{self._url}v1/documents/{quote(citation.document_id)}"
                    f"#char={citation.start},{citation.end}",
                },
            }
            for citation in answer.citations
        ]


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "hybridqa"}


def _arm(model: str) -> Arm | None:
    if model not in MODELS:
        raise OpenAIError(
            404,
            f"There is no model {model!r:.80}. Models: {', '.join(MODELS)}.",
            "model",
            "model_not_found",
        )
    return MODELS[model]


def _question(body: ChatBody) -> str:
    last = body.messages[-1]
    if last.role != "user":
        raise OpenAIError(
            400,
            f"The last message is of the role `{last.role}`. End with a `user` message, which is "
            "the question.",
            "messages",
        )
    if isinstance(last.content, str):
        return last.content
    for part in last.content or []:
        if part.type != "text":
            raise OpenAIError(
                400,
                f"A message has a part of the type {part.type!r:.40}. Only `text` is read.",
                "messages",
                "unsupported_parameter",
            )
    return "\n".join(part.text or "" for part in last.content or [])


def _refuse_unsupported(body: ChatBody, max_tokens: int) -> None:
    def refuse(name: str, why: str) -> None:
        raise OpenAIError(400, f"`{name}` is not supported: {why}.", name, "unsupported_parameter")

    if body.n not in (None, 1):
        refuse("n", "there is one answer to a question; leave it out")
    if body.response_format and body.response_format.get("type", "text") != "text":
        refuse("response_format", "answers are plain text")
    for name, value in (body.model_extra or {}).items():
        if value and name not in _WITHOUT_EFFECT:
            refuse(name[:80], "leave it out")
    for name in ("max_tokens", "max_completion_tokens"):
        wanted = getattr(body, name)
        if wanted is not None and wanted < max_tokens:
            refuse(
                name,
                f"answers have up to {max_tokens} tokens and are never cut off, so it must be at "
                f"least {max_tokens}, not {wanted}",
            )


def _usage(answer: Answer) -> dict[str, int]:
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
    }


def _data(value: Any) -> bytes:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()
