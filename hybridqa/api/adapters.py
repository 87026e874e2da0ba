"""Adapters: listed, shown, and given away as PEFT folders. One leaks its document: the same key."""

from __future__ import annotations

import tempfile
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import FileResponse
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from hybridqa.api.problems import problems
from hybridqa.api.security import Access, Caller
from hybridqa.api.service import Service
from hybridqa.errors import UnknownAdapterError
from hybridqa.serialize import adapter_dict
from hybridqa.types import AdapterState


class AdapterBody(BaseModel):
    id: str
    document_id: str
    content_hash: str
    model_fingerprint: str
    internalizer: str
    internalizer_fingerprint: str
    task_adapter_id: str | None
    rank: int
    energy: float | None
    shares: list[tuple[int, int]]
    good_shares: int
    size_bytes: int
    seconds: float | None
    created_at: datetime
    state: AdapterState


class AdaptersBody(BaseModel):
    adapters: list[AdapterBody]
    next: str | None
    """Give it as `after` to get more."""


def router(service: Service, access: Access) -> APIRouter:
    """Return the routes below `/v1/adapters`."""
    routes = APIRouter(prefix="/v1/adapters", tags=["adapters"])

    @routes.get("", responses=problems(404), response_model=AdaptersBody)
    def list_adapters(
        caller: Caller = Depends(access.reader),
        document: str | None = Query(None, max_length=2048),
        state: AdapterState | None = None,
        limit: int = Query(50, ge=1, le=200),
        after: str | None = Query(None, max_length=64),
    ) -> dict[str, Any]:
        """List adapters, newest first."""
        found = caller.tenant.qa.catalog.adapters(document, state)
        ids = [record.id for record in found]
        if after is not None and after not in ids:
            raise UnknownAdapterError(after)
        start = 0 if after is None else ids.index(after) + 1
        shown = found[start : start + limit]
        more = start + limit < len(found)
        return {
            "adapters": [adapter_dict(record) for record in shown],
            "next": shown[-1].id if more else None,
        }

    @routes.get("/{adapter_id}", responses=problems(404), response_model=AdapterBody)
    def show_adapter(adapter_id: str, caller: Caller = Depends(access.reader)) -> dict[str, Any]:
        """Show an adapter; the first 8 or more characters of its id will do."""
        return adapter_dict(caller.tenant.qa.catalog.adapter(adapter_id))

    @routes.post(
        "/{adapter_id}/export",
        response_class=FileResponse,
        responses={
            **problems(404),
            200: {
                "description": "A PEFT folder, or a GGUF file, zipped.",
                "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
            },
        },
    )
    def export_adapter(
        adapter_id: str,
        part: int | None = Query(None, ge=0, description="One of its shares, by number."),
        rank: int | None = Query(None, ge=1, le=512, description="Of all modules; `peft` only."),
        file_format: Literal["peft", "gguf"] = Query("peft", alias="format"),
        caller: Caller = Depends(access.reader),
    ) -> FileResponse:
        """Return an adapter with what lies under it, as `PeftModel.from_pretrained` loads it.

        Engines such as vLLM know one `rank` for all modules; `format=gguf` is for llama.cpp.
        """
        folder = tempfile.TemporaryDirectory(prefix="hybridqa-export-")
        try:
            record = caller.tenant.qa.export_adapter(
                adapter_id,
                Path(folder.name, "adapter"),
                part=part,
                rank=rank,
                file_format=file_format,
            )
            packed = Path(folder.name, "adapter.zip")
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
                for path in sorted(Path(folder.name, "adapter").iterdir()):
                    archive.write(path, path.name)
        except BaseException:
            folder.cleanup()
            raise
        return _Lent(packed, f"{record.id[:12]}.zip", folder)

    return routes


class _Lent(FileResponse):
    """A zip whose folder is removed however its sending ends, unlike by a background task."""

    def __init__(self, path: Path, filename: str, folder: tempfile.TemporaryDirectory[str]) -> None:
        super().__init__(path, media_type="application/zip", filename=filename)
        self._folder = folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._folder.cleanup()
