"""How far the ingestion of documents is."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from hybridqa.api import sse
from hybridqa.api.problems import problems, reworded
from hybridqa.api.security import Access, Caller
from hybridqa.api.service import Service
from hybridqa.engines.ingest import IngestStatus
from hybridqa.errors import HybridQAError
from hybridqa.stores.jobs import Job, JobState, JobStore

_SLICE_S = 0.5
"""So long a stream may keep a thread before it looks whether anybody listens."""
_WATCHERS = 32
"""Threads for streams, however many there are: they take turns, and answers keep their own."""


class ErrorBody(BaseModel):
    type: str
    message: str


class ResultBody(BaseModel):
    """What became of a document: either its `status` and what follows, or an `error`."""

    id: str
    status: IngestStatus | None = None
    chunks: int | None = None
    adapter: str | None = None
    """Id of its adapter."""
    energy: float | None = None
    internalized: bool | None = None
    """Whether the adapter was made now."""
    retired: int | None = None
    """Adapters of the former text that were taken out of use."""
    warning: str | None = None
    """Why there is no adapter, although one was wanted."""
    seconds: float | None = None
    error: ErrorBody | None = None


class JobBody(BaseModel):
    id: str
    state: JobState
    """`succeeded` when all documents were tried, `failed` if none of them could be taken in."""
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    total: int
    """Documents."""
    done: int
    current: str | None
    """Id of the document at work."""
    results: list[ResultBody]
    """Of each document done, in order."""
    error: str | None
    version: int
    """Grows with each change."""


class JobsBody(BaseModel):
    jobs: list[JobBody]
    next: str | None
    """Give it as `before` to get more."""


def job_dict(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "state": job.state.value,
        "created_at": job.created_at.isoformat(),
        "started_at": job.started_at and job.started_at.isoformat(),
        "finished_at": job.finished_at and job.finished_at.isoformat(),
        "total": job.total,
        "done": job.done,
        "current": job.current,
        "results": [_reworded(result) for result in job.results],
        "error": job.error and reworded(job.error),
        "version": job.version,
    }


def _reworded(result: Mapping[str, Any]) -> dict[str, Any]:
    told = dict(result)
    if told.get("warning"):
        told["warning"] = reworded(told["warning"])
    if told.get("error"):
        told["error"] = {**told["error"], "message": reworded(told["error"]["message"])}
    return told


def router(service: Service, access: Access) -> APIRouter:
    """Return the routes below `/v1/jobs`."""
    routes = APIRouter(prefix="/v1/jobs", tags=["jobs"])
    watchers = CapacityLimiter(_WATCHERS)

    @routes.get(
        "", responses=problems(404), response_model=JobsBody, response_model_exclude_unset=True
    )
    def list_jobs(
        caller: Caller = Depends(access.reader),
        limit: int = Query(20, ge=1, le=100),
        before: str | None = Query(None, max_length=64),
    ) -> dict[str, Any]:
        """List jobs, newest first."""
        found = caller.tenant.jobs.list(limit + 1, before)
        return {
            "jobs": [job_dict(job) for job in found[:limit]],
            "next": found[limit - 1].id if len(found) > limit else None,
        }

    @routes.get(
        "/{job_id}",
        responses=problems(404),
        response_model=JobBody,
        response_model_exclude_unset=True,
    )
    def show_job(job_id: str, caller: Caller = Depends(access.reader)) -> dict[str, Any]:
        """Show a job."""
        return job_dict(caller.tenant.jobs.get(job_id))

    @routes.delete(
        "/{job_id}",
        responses=problems(404),
        response_model=JobBody,
        response_model_exclude_unset=True,
    )
    def cancel_job(job_id: str, caller: Caller = Depends(access.writer)) -> dict[str, Any]:
        """Cancel a job: at once, or after the document at work. A finished one stays as it is."""
        return job_dict(caller.tenant.jobs.cancel(job_id))

    @routes.get(
        "/{job_id}/events",
        response_class=StreamingResponse,
        responses={
            **problems(404),
            200: {
                "description": "Events `job`: `id` is the version, `data` the job. The stream "
                "ends when the job does.",
                "content": {"text/event-stream": {}},
            },
            204: {"description": "The job ended with the event that the client saw last."},
        },
    )
    def watch_job(
        job_id: str,
        caller: Caller = Depends(access.reader),
        last_event_id: str | None = Header(None),
    ) -> Response:
        """Follow a job; each event tells all of it, so none needs to be caught up on."""
        jobs = caller.tenant.jobs
        job = jobs.get(job_id)
        seen = _version(last_event_id)
        if job.state.finished and seen >= job.version:
            return Response(status_code=204)  # or an `EventSource` would come again for ever
        return sse.streamed(told(jobs, job_id, min(seen, job.version)))

    async def told(jobs: JobStore, job_id: str, seen: int) -> AsyncIterator[bytes]:
        spoke = time.monotonic()
        with suppress(HybridQAError):  # forgotten meanwhile, or the store was closed
            while not service.stopping.is_set():
                job = await to_thread.run_sync(jobs.wait, job_id, seen, _SLICE_S, limiter=watchers)
                if job is not None:
                    yield sse.event("job", job_dict(job), job.version)
                    if job.state.finished:
                        return
                    seen, spoke = job.version, time.monotonic()
                elif time.monotonic() - spoke >= sse.KEEP_ALIVE_S:
                    yield sse.KEEP_ALIVE
                    spoke = time.monotonic()

    return routes


def _version(last_event_id: str | None) -> int:
    """Return the version of a `Last-Event-ID`; what is no number was not ours."""
    given = last_event_id or ""
    return int(given) if given.isascii() and given.isdigit() and len(given) < 16 else 0
