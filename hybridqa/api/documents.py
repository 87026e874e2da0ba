"""Documents: sent to be ingested, listed, shown, deleted."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel
from starlette.datastructures import FormData

from hybridqa.api.jobs import JobBody, job_dict
from hybridqa.api.problems import problems
from hybridqa.api.received import receiver, request_body, to_items
from hybridqa.api.schemas import SignalBody
from hybridqa.api.security import Access, Caller
from hybridqa.api.service import Service
from hybridqa.errors import UnknownDocumentError
from hybridqa.serialize import document_dict

_COUNTED = 1 << 40
"""Bytes; `received` counts them, so the app's narrower limit of bodies is lifted here."""


class DocumentBody(BaseModel):
    id: str
    title: str
    source: str
    content_hash: str
    """SHA-256 of the text."""
    characters: int
    chunks: int
    modified_at: datetime | None
    modified_by: str
    """Who says so: `owner`, `git`, `filesystem` or `unknown`."""
    revisions: int
    ingested_at: datetime
    first_ingested_at: datetime
    volatility: SignalBody
    """How likely its truth changes, in [0, 1]."""
    citation_need: SignalBody
    """How likely its source must be shown, in [0, 1]."""
    metadata: dict[str, str]
    text: str = ""
    """With `text=true`."""


class DocumentsBody(BaseModel):
    documents: list[DocumentBody]
    next: str | None
    """Give it as `after` to get more."""


class DeletedBody(BaseModel):
    id: str
    removed_adapters: list[str]
    """Their ids."""


def router(service: Service, access: Access) -> APIRouter:
    """Return the routes below `/v1/documents`."""
    routes = APIRouter(prefix="/v1/documents", tags=["documents"])
    limits = service.limits
    receive = receiver(access, limits)

    @routes.post(
        "",
        status_code=202,
        responses=problems(415),
        response_model=JobBody,
        response_model_exclude_unset=True,
        max_body_size=_COUNTED,
        openapi_extra={"requestBody": request_body(limits.max_documents)},
    )
    def add_documents(
        request: Request,
        response: Response,
        caller: Caller = Depends(access.writer),
        sent: FormData | bytes = Depends(receive),
    ) -> dict[str, Any]:
        """Have documents ingested: one or several as JSON, or files. Answers with a job."""
        tenant = caller.tenant
        job = tenant.jobs.add(to_items(sent, limits.max_documents), limits.max_jobs)
        service.worker.wake(tenant.name)
        response.headers["Location"] = f"{request.scope.get('root_path', '')}/v1/jobs/{job.id}"
        return job_dict(job)

    @routes.get(
        "", responses=problems(), response_model=DocumentsBody, response_model_exclude_unset=True
    )
    def list_documents(
        caller: Caller = Depends(access.reader),
        limit: int = Query(50, ge=1, le=200),
        after: str | None = None,
    ) -> dict[str, Any]:
        """List documents in the order of their ids."""
        catalog = caller.tenant.qa.catalog
        ids = sorted(key for key in catalog.live_hashes() if after is None or key > after)
        found = (catalog.find(document_id) for document_id in ids[:limit])
        return {
            # One that was deleted meanwhile is left out.
            "documents": [_sayable(document_dict(record)) for record in found if record],
            "next": ids[limit - 1] if len(ids) > limit else None,
        }

    @routes.get(
        "/{document_id:path}",
        responses=problems(404),
        response_model=DocumentBody,
        response_model_exclude_unset=True,
    )
    def show_document(
        document_id: str,
        caller: Caller = Depends(access.reader),
        text: bool = False,
    ) -> dict[str, Any]:
        """Show a document, with `text=true` all of its text."""
        shown: dict[str, Any] = _sayable(
            document_dict(caller.tenant.qa.catalog.get(document_id), text)
        )
        return shown

    @routes.delete("/{document_id:path}", responses=problems(404), response_model=DeletedBody)
    def delete_document(
        document_id: str, caller: Caller = Depends(access.writer)
    ) -> dict[str, Any]:
        """Delete a document with its adapters. Jobs that hold it bring it back."""
        qa = caller.tenant.qa
        if qa.catalog.live_hash(document_id) is None:  # told without loading models
            raise UnknownDocumentError(document_id)
        return {"id": document_id, "removed_adapters": qa.delete(document_id)}

    return routes


def _sayable(value: Any) -> Any:
    """Return a value without lone surrogates, which no response can hold, but file names may."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_sayable(key): _sayable(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_sayable(each) for each in value]
    return value
