"""Documents as clients send them: JSON, or files in a form."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import PurePath
from typing import Annotated, Any, get_args

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator, AwareDatetime, Field, TypeAdapter, ValidationError
from pydantic_core import from_json
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from hybridqa.api.schemas import MAX_ID_CHARS, Name, Strict, Text
from hybridqa.api.security import Access, Caller
from hybridqa.config import InternalizerName, ServeConfig
from hybridqa.connectors.parsers import PARSERS
from hybridqa.service.gate import Gate
from hybridqa.stores.jobs import JobItem
from hybridqa.types import content_hash

_MAX_RECEIVING = 16
"""Requests whose bodies are held in memory at a time; of one tenant half as many."""
_FIELDS = ("id", "title", "internalizer")
_OURS = "hybridqa_"
_LINE = r"[^\x00-\x1f\x7f]+"


def _addressable(document_id: str) -> str:
    if {".", ".."} & set(document_id.split("/")):
        raise ValueError("has a part `.` or `..`, which clients take out of URLs")
    return document_id


def _filled(text: str) -> str:
    if "\0" in text:
        raise ValueError("holds a NUL character; send plain text")
    if not text.strip():
        raise ValueError("is empty")
    return text


def _not_ours(name: str) -> str:
    if name.startswith(_OURS):
        raise ValueError(f"names that begin with `{_OURS}` are taken")
    return name


# Patterns tell in OpenAPI what the validators check.
DocumentId = Annotated[
    Name,
    AfterValidator(_addressable),
    Field(json_schema_extra={"pattern": rf"^(?!(.*/)?\.\.?(/.*)?$){_LINE}$"}),
]
Line = Annotated[Name, Field(json_schema_extra={"pattern": f"^{_LINE}$"})]
Key = Annotated[
    Name,
    AfterValidator(_not_ours),
    Field(json_schema_extra={"pattern": f"^(?!{_OURS}){_LINE}$"}),
]
Filled = Annotated[
    Text,
    Field(min_length=1, json_schema_extra={"pattern": r"^[^\x00]*[^\s\x00][^\x00]*$"}),
    AfterValidator(_filled),
]


class DocumentText(Strict):
    """A document given as text."""

    id: DocumentId | None = None
    """Replaces the document of this id. By default made from the text."""
    text: Filled
    title: Line | None = None
    source: Line | None = None
    """Where it came from, e.g. a URL."""
    modified_at: AwareDatetime | None = None
    """Last change."""
    metadata: Annotated[
        dict[Key, Annotated[Text, Field(max_length=4096)]],
        Field(
            max_length=64,
            default_factory=dict,
            json_schema_extra={"additionalProperties": False},
        ),
    ]
    """E.g. `stability: volatile`, `citation: required`."""
    internalizer: InternalizerName | None = None
    """How to make its adapter; by default as configured."""


class DocumentTexts(Strict):
    documents: Annotated[list[DocumentText], Field(min_length=1)]
    """Taken in one after the other: of two with the same id the later stays."""


class _Fields(Strict):
    """Of a form, beside its files."""

    id: DocumentId | None = None
    title: Line | None = None
    internalizer: InternalizerName | None = None


_FILE_NAME: TypeAdapter[str] = TypeAdapter(DocumentId)


def receiver(access: Access, limits: ServeConfig) -> Callable[..., AsyncIterator[FormData | bytes]]:
    """Return a dependency that reads a request's body; what it yields is for `to_items`."""
    gate = Gate("requests that bring documents", _MAX_RECEIVING, _MAX_RECEIVING // 2)

    async def receive(
        request: Request, caller: Caller = Depends(access.writer)
    ) -> AsyncIterator[FormData | bytes]:
        request = Request(request.scope, _counted(request, limits.max_upload_bytes))
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        with gate.entered(caller.tenant.name):
            if kind == "multipart/form-data":
                form = request.form(max_files=limits.max_documents, max_fields=len(_FIELDS))
                async with form as parts:
                    yield parts
            elif kind == "application/json":
                yield await request.body()
            else:
                raise HTTPException(
                    415, "Send a document as `application/json`, or files as `multipart/form-data`."
                )

    return receive


def _counted(request: Request, max_bytes: int) -> Receive:
    """Return what receives the body, up to a limit.

    FastAPI's own limit would answer in plain text, not with a problem.
    """
    told, received = request.headers.get("content-length", ""), 0
    too_long = HTTPException(
        413, f"The body has more than {max_bytes} bytes, the limit. Send fewer documents at once."
    )
    if told.isascii() and told.isdigit() and int(told[:20]) > max_bytes:
        raise too_long

    async def receive() -> Message:
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > max_bytes:
            raise too_long
        return message

    return receive


def to_items(sent: FormData | bytes, max_documents: int) -> list[JobItem]:
    """Return what a request asks to ingest.

    Raises:
        RequestValidationError: It cannot be used; tells where and why.
    """
    items = _from_json(sent) if isinstance(sent, bytes) else _from_form(sent)
    if len(items) > max_documents:
        raise _invalid(("documents",), f"has {len(items)} documents, limit {max_documents}")
    return items


def _from_json(body: bytes) -> list[JobItem]:
    try:
        raw = from_json(body)
        if isinstance(raw, dict) and "documents" in raw:
            documents = DocumentTexts.model_validate_json(body, strict=True).documents
        else:
            documents = [DocumentText.model_validate_json(body, strict=True)]
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError(
            [{**error, "loc": ("body", *error["loc"])} for error in errors]
        ) from exc
    except ValueError as exc:
        raise _invalid((), f"is no JSON: {exc}") from exc
    return [
        JobItem(
            id=each.id or content_hash(each.text)[:32],
            title=each.title,
            source=each.source,
            modified_at=each.modified_at,
            metadata=each.metadata,
            internalizer=each.internalizer,
            data=each.text.encode(),
        )
        for each in documents
    ]


def _from_form(form: FormData) -> list[JobItem]:
    files = [value for key, value in form.multi_items() if key == "file"]
    given = {key: value for key, value in form.multi_items() if key != "file"}
    if not files:
        raise _invalid(("file",), "is missing; send one or more files")
    try:
        fields = _Fields.model_validate(given)
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError(
            [{**error, "loc": ("body", *error["loc"])} for error in errors]
        ) from exc
    if len(files) > 1 and (fields.id or fields.title):
        raise _invalid(("id",), f"`id` and `title` are for one file, here are {len(files)}")
    items = [_file(file, fields) for file in files]
    names = [item.id for item in items]
    for name in names:  # one would replace the other, though they came from two folders
        if names.count(name) > 1:
            raise _invalid(("file",), f"`{name}` is there twice; send one of them with an `id`")
    return items


def _file(file: UploadFile | str, fields: _Fields) -> JobItem:
    if isinstance(file, str) or not file.filename:
        raise _invalid(("file",), "has no file name; its suffix says what it is")
    name = unicodedata.normalize("NFC", re.split(r"[\\/]", file.filename)[-1])
    try:
        _FILE_NAME.validate_python(name)
    except ValidationError as exc:
        why = exc.errors()[0]["msg"]
        raise _invalid(("file",), f"a file's name cannot be an id: {why}") from exc
    suffix = PurePath(name).suffix.lower()
    if suffix not in PARSERS:
        raise _invalid(
            ("file",),
            f"`{name}` is of the kind `{suffix or 'without suffix'}`, which cannot be read; "
            f"convert it to one of {', '.join(PARSERS)}",
        )
    return JobItem(
        id=fields.id or name,
        title=fields.title,
        source=name,
        internalizer=fields.internalizer,
        suffix=suffix,
        data=file.file.read(),
    )


def _invalid(where: Sequence[str], what: str) -> RequestValidationError:
    return RequestValidationError([{"loc": ("body", *where), "msg": what, "type": "value_error"}])


def request_body(max_documents: int) -> dict[str, Any]:
    """Return what OpenAPI shall say of these bodies."""
    one = DocumentText.model_json_schema()
    many = {
        "type": "object",
        "required": ["documents"],
        "additionalProperties": False,
        "properties": {
            "documents": {"type": "array", "items": one, "minItems": 1, "maxItems": max_documents}
        },
    }
    name = {"type": "string", "minLength": 1, "maxLength": MAX_ID_CHARS}
    form = {
        "type": "object",
        "required": ["file"],
        "additionalProperties": False,
        "properties": {
            "file": {
                "type": "array",
                "items": {"type": "string", "format": "binary"},
                "minItems": 1,
                "maxItems": max_documents,
                "description": f"Files; their names end in one of {', '.join(PARSERS)}.",
            },
            "id": {**name, "description": "Of the document, if it is one file."},
            "title": {**name, "description": "If it is one file."},
            "internalizer": {"enum": list(get_args(InternalizerName))},
        },
    }
    return {
        "required": True,
        "content": {
            "application/json": {"schema": {"oneOf": [one, many]}},
            "multipart/form-data": {"schema": form},
        },
    }
