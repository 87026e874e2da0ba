import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from hybridqa.api.app import create_app, create_service
from hybridqa.errors import InputError
from hybridqa.testing import best_sentence
from hybridqa.types import Document
from tests.api.conftest import LAMP, Answer, fake_config, fake_models

WEIGHT = {"question": "What does the Corvane lamp weigh?"}


class Traced:
    def __init__(self, home: Path, stack: ExitStack, is_on: bool = True) -> None:
        config = fake_config(traces=is_on)
        self.answer: Answer = best_sentence
        models = fake_models(config, lambda question, texts: self.answer(question, texts))
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        stack.callback(provider.shutdown)
        self.service = create_service(home, config, models, auth=False)
        app = create_app(self.service, provider)
        self.client = stack.enter_context(
            TestClient(app, raise_server_exceptions=False, base_url="http://localhost")
        )

    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def question(self) -> ReadableSpan:
        (span,) = [span for span in self.spans() if span.name == "chat fake"]
        return span

    def request(self, path: str) -> ReadableSpan:
        (span,) = [
            span
            for span in self.spans()
            if span.kind is SpanKind.SERVER and (span.attributes or {})["url.path"] == path
        ]
        return span


@pytest.fixture
def traced(tmp_path: Path) -> Iterator[Traced]:
    with ExitStack() as stack:
        yield Traced(tmp_path / "home", stack)


def test_a_question_has_a_span_within_its_request(traced: Traced) -> None:
    know(traced)
    traced.client.post("/v1/answers", json={**WEIGHT, "arm": "adapter"})

    question, request = traced.question(), traced.request("/v1/answers")
    assert question.context.trace_id == request.context.trace_id
    told = question.attributes or {}
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.provider.name"] == "hybridqa"
    assert told["gen_ai.request.model"] == "fake"
    assert int(str(told["gen_ai.usage.input_tokens"])) > 0
    assert int(str(told["gen_ai.usage.output_tokens"])) > 0
    assert told["hybridqa.route"] == told["hybridqa.arm"] == "adapter"
    assert told["hybridqa.abstained"] is False
    assert told["hybridqa.timing.total_ms"]
    assert request.name == "POST /v1/answers"
    assert question.start_time is not None
    assert request.start_time is not None
    assert request.start_time <= question.start_time


def test_a_streamed_question_has_one_too(traced: Traced) -> None:
    know(traced)
    traced.client.post("/v1/answers", json={**WEIGHT, "stream": True})

    request = traced.request("/v1/answers")
    assert traced.question().context.trace_id == request.context.trace_id


def test_the_callers_trace_goes_on(traced: Traced) -> None:
    know(traced)
    trace_id, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    headers = {"traceparent": f"00-{trace_id}-{parent}-01"}

    traced.client.post("/v1/answers", json=WEIGHT, headers=headers)

    request = traced.request("/v1/answers")
    assert format(traced.question().context.trace_id, "032x") == trace_id
    assert request.parent is not None
    assert format(request.parent.span_id, "016x") == parent


@pytest.mark.parametrize("given", ["", "00-0-0-01", "x" * 5000, "00-" + "0" * 32 + "-1-01"])
def test_a_broken_parent_is_ignored(traced: Traced, given: str) -> None:
    know(traced)

    answer = traced.client.post("/v1/answers", json=WEIGHT, headers={"traceparent": given})

    assert answer.status_code == 200
    assert traced.request("/v1/answers").parent is None


def test_no_question_answer_or_document_is_in_a_questions_span(traced: Traced) -> None:
    know(traced)
    traced.client.post("/v1/answers", json={**WEIGHT, "documents": ["lamp"]})

    told = traced.question().to_json().casefold()
    assert "lamp" not in told
    assert "weigh" not in told


def test_a_failure_is_told_and_a_refusal_is_none(traced: Traced) -> None:
    know(traced)
    traced.client.post("/v1/answers", json={"question": ""})
    refused = traced.question()
    traced.exporter.clear()

    def breaking(question: str, texts: object) -> str:
        raise KeyError("secret")

    traced.answer = breaking
    assert traced.client.post("/v1/answers", json=WEIGHT).status_code == 500

    assert (refused.attributes or {})["error.type"] == "QuestionError"
    assert refused.status.status_code is StatusCode.UNSET
    failed = traced.question()
    assert (failed.attributes or {})["error.type"] == "KeyError"
    assert failed.status.status_code is StatusCode.ERROR
    assert "secret" not in failed.to_json()


def test_traces_are_off_unless_asked_for(tmp_path: Path) -> None:
    with ExitStack() as stack:
        plain = Traced(tmp_path / "home", stack, is_on=False)
        know(plain)
        assert plain.client.post("/v1/answers", json=WEIGHT).status_code == 200

    assert plain.spans() == []


def test_traces_without_opentelemetry_are_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "hybridqa.api.telemetry", None)
    config = fake_config(traces=True)
    service = create_service(tmp_path / "home", config, fake_models(config), auth=False)

    with pytest.raises(InputError, match=r"hybridqa\[telemetry\]"):
        create_app(service)
    service.tenants.close()


def know(traced: Traced) -> None:
    qa = traced.service.tenants.get("default").qa
    qa.ingest(Document(id="lamp", text=LAMP, title="Lamp", source="lamp.txt"))
