"""Figures for Prometheus. No tenant and no document is named in them."""

from __future__ import annotations

import time

from fastapi import APIRouter, Depends, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hybridqa.api.problems import problems, status_of
from hybridqa.api.security import Access, Caller
from hybridqa.api.service import Service
from hybridqa.engines.trace import Trace
from hybridqa.types import Answer

_SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120)


class Metrics:
    """Counts what goes on in one app."""

    def __init__(self, service: Service) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "hybridqa_requests_total",
            "Requests by route.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._request_seconds = Histogram(
            "hybridqa_request_seconds",
            "Time to the end of the response.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._questions = Counter(
            "hybridqa_questions_total",
            "Questions by arm and outcome: answered, abstained, refused (bad input) or failed.",
            ["arm", "outcome"],
            registry=self.registry,
        )
        self._question_seconds = Histogram(
            "hybridqa_question_seconds",
            "Time to an answer.",
            ["arm"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._tokens = Counter(
            "hybridqa_tokens_total", "Tokens by kind.", ["kind"], registry=self.registry
        )
        self._worn = Counter(
            "hybridqa_adapters_worn_total",
            "Answers that were given wearing a document's adapter.",
            registry=self.registry,
        )
        asking = Gauge(
            "hybridqa_questions_in_flight", "Being answered or waiting.", registry=self.registry
        )
        asking.set_function(lambda: service.gate.inside)
        jobs = Gauge(
            "hybridqa_jobs_unfinished", "Queued or running, all tenants.", registry=self.registry
        )
        jobs.set_function(
            lambda: sum(tenant.jobs.unfinished() for tenant in service.tenants.opened())
        )

    def observe(self, outcome: Trace | Exception, seconds: float) -> None:
        """Count a question."""
        result = outcome.outcome if isinstance(outcome, Trace) else outcome
        if isinstance(result, Answer):
            arm, what = result.arm.value, "abstained" if result.abstained else "answered"
            self._question_seconds.labels(arm).observe(seconds)
            self._tokens.labels("prompt").inc(result.prompt_tokens)
            self._tokens.labels("completion").inc(result.completion_tokens)
            self._worn.inc(result.adapter is not None)
        else:
            arm, what = "none", "refused" if status_of(result) < 500 else "failed"
        self._questions.labels(arm, what).inc()

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(method, route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def router(self, access: Access) -> APIRouter:
        """Return `/metrics`."""
        routes = APIRouter(tags=["operation"])

        @routes.get(
            "/metrics",
            response_class=Response,
            responses={**problems(), 200: {"content": {"text/plain": {}}}},
        )
        def metrics(caller: Caller = Depends(access.reader)) -> Response:
            """Return figures in Prometheus' format."""
            return Response(generate_latest(self.registry), media_type=CONTENT_TYPE_LATEST)

        return routes


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})


class Counted:
    """ASGI middleware: counts requests by the route that took them."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        finally:
            # What is no route, or nobody's method, has no label of its own: there is no end of it.
            path = getattr(scope.get("route"), "path", None)
            route = "other" if path is None else scope.get("root_path", "") + path
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.request(method, route, status, time.perf_counter() - began)
