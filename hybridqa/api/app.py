"""The REST service as one app."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from anyio import to_thread
from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from starlette.middleware import Middleware

from hybridqa.api import (
    adapters,
    answers,
    documents,
    explain,
    health,
    jobs,
    openai,
    page,
    policy,
    problems,
)
from hybridqa.api.limits import BodyLimit, Hosts, RequestIds
from hybridqa.api.metrics import Counted, Metrics
from hybridqa.api.runs import Dashboards
from hybridqa.api.security import Access
from hybridqa.api.service import Service
from hybridqa.config import Config
from hybridqa.errors import InputError
from hybridqa.service.gate import Gate
from hybridqa.service.tenants import Tenants
from hybridqa.service.worker import Worker
from hybridqa.stores.keys import KeyStore
from hybridqa.wiring import Models

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

_OTHER_THREADS = 40
"""For all that is no question."""

_log = logging.getLogger(__name__)


def create_service(
    root: str | Path, config: Config, models: Models | None = None, auth: bool = True
) -> Service:
    """Open a home for service.

    Args:
        root: Home of the tenant `default`; other tenants' lie in it, and so do the API keys.
        config: All settings.
        models: By default those that `config` names; not loaded before they are needed.
        auth: Ask for API keys.

    Raises:
        HomeInUseError: Another process has it open.
        StoreError: It cannot be opened.
    """
    limits = config.serve
    tenants = Tenants(root, config, models or Models(config, limits.max_batch))
    return Service(
        tenants=tenants,
        keys=KeyStore(tenants.root / "keys.json") if auth else None,
        gate=Gate("questions", limits.max_asking, limits.max_asking_by_tenant),
        worker=Worker(tenants),
        limits=limits,
    )


def create_app(service: Service, tracer_provider: TracerProvider | None = None) -> FastAPI:
    """Return the app. It starts and stops the worker, and closes the service's homes at the end.

    Args:
        service: Belongs to the app from now on.
        tracer_provider: For traces, if they are on; by default as the environment says.

    Raises:
        InputError: Traces are on, and OpenTelemetry is not installed.
    """
    access, metrics = Access(service), Metrics(service)
    service.observers.append(metrics.observe)
    app = FastAPI(
        title="hybridqa",
        version=version("hybridqa"),
        description="Ask a body of documents: from weights or from retrieval, with citations.",
        lifespan=_life(service),
        middleware=[
            Middleware(RequestIds),
            Middleware(Counted, metrics=metrics),
            Middleware(Hosts, only_local=service.keys is None),
            Middleware(
                BodyLimit,
                max_bytes=service.limits.max_body_bytes,
                exempt=frozenset({"/v1/documents"}),
            ),
        ],
        docs_url=None,  # its pages load scripts from elsewhere
        redoc_url=None,
        telemetry=_telemetry(service, tracer_provider) if service.limits.traces else None,
    )
    problems.install(app)
    for module in (answers, openai, documents, jobs, adapters, explain, policy):
        app.include_router(module.router(service, access))
    app.include_router(metrics.router(access))
    app.include_router(health.router(service))

    @app.get("/dashboard", include_in_schema=False)
    def to_dashboard() -> RedirectResponse:
        return RedirectResponse("dashboard/")

    app.mount("/dashboard/", Dashboards(access))
    app.include_router(page.router())
    return app


def _life(service: Service):  # type: ignore[no-untyped-def]  # FastAPI's type for it is not public
    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        limiter = to_thread.current_default_thread_limiter()
        limiter.total_tokens = service.limits.max_asking + _OTHER_THREADS
        loading = threading.Thread(target=_load, args=(service,), name="loading", daemon=True)
        loading.start()
        service.worker.start()
        try:
            yield
        finally:
            service.stopping.set()
            if not await to_thread.run_sync(service.worker.stop, service.limits.shutdown_s):
                _log.warning("A document is still being ingested; it is begun anew at next start.")
            await to_thread.run_sync(loading.join, service.limits.shutdown_s)
            service.tenants.models.close()
            service.tenants.close()

    return life


def _load(service: Service) -> None:
    """Load the models, so that the first question does not wait for them."""
    try:
        _ = service.tenants.get("default").qa.answerer
    except Exception:
        _log.exception("The models cannot be loaded; the service does not get ready.")
    else:
        service.ready.set()


def _telemetry(service: Service, provider: TracerProvider | None):  # type: ignore[no-untyped-def]
    try:
        from hybridqa.api.telemetry import question_spans
    except ImportError as exc:
        raise InputError(
            f"`serve: traces` is on, but `{exc.name}` is not installed. Run `pip install "
            "'hybridqa[telemetry]'`."
        ) from exc
    service.observers.append(question_spans(service.tenants.config.model.name, provider))
    # Figures have a route of their own, and errors, whose messages name documents, a log.
    return {
        "tracer_provider": provider,
        "auto_configure": provider is None,
        "metrics": False,
        "logs": False,
    }
