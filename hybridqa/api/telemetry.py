"""OpenTelemetry: FastAPI traces requests; here each question gets a span below its request.

Attributes follow the semantic conventions for generative AI, with our own below `hybridqa.`; no
question, answer or document is in them.
"""

from __future__ import annotations

import time

from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider, get_tracer

from hybridqa.api.problems import status_of
from hybridqa.api.service import Observer
from hybridqa.engines.trace import Trace
from hybridqa.types import Answer


def question_spans(model: str, provider: TracerProvider | None = None) -> Observer:
    """Return what makes a span of each question, once it is done.

    Args:
        model: Name of the base model.
        provider: By default the global one.
    """
    tracer = get_tracer("hybridqa", tracer_provider=provider)

    def observe(outcome: Trace | Exception, seconds: float) -> None:
        ended = time.time_ns()
        result = outcome.outcome if isinstance(outcome, Trace) else outcome
        span = tracer.start_span(
            f"chat {model}",
            kind=SpanKind.INTERNAL,
            start_time=ended - int(seconds * 1e9),
            attributes={
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "hybridqa",
                "gen_ai.request.model": model,
            },
        )
        if isinstance(outcome, Trace):
            span.set_attribute("gen_ai.usage.input_tokens", outcome.prompt_tokens)
            span.set_attribute("gen_ai.usage.output_tokens", outcome.completion_tokens)
            span.set_attribute("hybridqa.route", outcome.routed.decision.arm.value)
            span.set_attribute("hybridqa.policy", outcome.routed.policy.name)
            for stage, milliseconds in outcome.timings_ms.items():
                span.set_attribute(f"hybridqa.timing.{stage}_ms", milliseconds)
        if isinstance(result, Answer):
            span.set_attribute("gen_ai.response.model", model)
            span.set_attribute("hybridqa.arm", result.arm.value)
            span.set_attribute("hybridqa.abstained", result.abstained)
            span.set_attribute("hybridqa.confidence", result.confidence)
            span.set_attribute("hybridqa.citations", len(result.citations))
        else:
            span.set_attribute("error.type", type(result).__name__)
            if status_of(result) >= 500:
                span.set_status(Status(StatusCode.ERROR))
        span.end(ended)

    return observe
