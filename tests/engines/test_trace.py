"""What is told of a question beside its answer."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hybridqa.engines.trace import logged
from hybridqa.errors import QuestionError
from hybridqa.protocols import Generation, Prompt
from hybridqa.testing import FakeGenerator, FakeInternalizer, FakeSystem
from hybridqa.types import Answer, Arm, Document, Style

CODE = "What is the gate code?"
TEXT = "The gate code is walnut."


def ingest(system: FakeSystem) -> Document:
    document = Document(id="manual.md", text=TEXT, title="Gate manual", source="/docs/manual.md")
    system.ingestor().ingest(document, FakeInternalizer())
    return document


def arms(answer: Answer) -> list[tuple[Arm, bool]]:
    return [(attempt.arm, attempt.accepted) for attempt in answer.attempts]


def in_doubt(prompt: Prompt) -> float:
    return 0.9 if prompt.passages else 0.1


def test_an_answer_tells_of_its_attempt(system: FakeSystem) -> None:
    ingest(system)

    answer = system.answerer().ask(CODE)

    [attempt] = answer.attempts
    assert (attempt.arm, attempt.text, attempt.accepted) == (Arm.ADAPTER, TEXT, True)
    assert attempt.confidence == pytest.approx(0.9)
    assert attempt.support == 0.9
    assert attempt.cited
    assert not attempt.abstained
    assert attempt.reasons == ()
    assert 0 < attempt.milliseconds <= answer.timings_ms["total"]


def test_dropped_attempts_are_told_and_counted(system: FakeSystem) -> None:
    ingest(system)
    alone = system.answerer().ask(CODE, Arm.RETRIEVAL)
    system.generator = FakeGenerator(confidence=in_doubt)

    answer = system.answerer().ask(CODE)

    assert arms(answer) == [(Arm.ADAPTER, False), (Arm.RETRIEVAL, True)]
    assert answer.attempts[0].text == TEXT
    assert answer.attempts[0].reasons == ("the adapter's confidence is 0.10, below 0.2",)
    assert answer.text == answer.attempts[1].text
    written = len(TEXT.split()) + 1
    assert (alone.prompt_tokens, alone.completion_tokens) == (1, written)
    # Each prompt is one token to the fake; the check reads the question and the answer once more.
    assert answer.prompt_tokens == 1 + (1 + written) + 1
    assert answer.completion_tokens == 2 * written


def test_what_was_withheld_is_in_the_attempts_alone(system: FakeSystem) -> None:
    ingest(system)
    system.generator = FakeGenerator(confidence=lambda prompt: 0.1)

    answer = system.answerer().ask(CODE)

    assert answer.abstained
    assert arms(answer) == [(Arm.ADAPTER, False), (Arm.RETRIEVAL, False)]
    assert [attempt.text for attempt in answer.attempts] == [TEXT, TEXT]
    assert answer.attempts[1].support is None


def test_a_damaged_adapter_is_an_attempt_with_an_error(system: FakeSystem, tmp_path: Path) -> None:
    ingest(system)
    [record] = system.catalog.adapters()
    (tmp_path / "adapters" / record.id / "adapter_model.safetensors").write_bytes(b"junk")

    answer = system.answerer().ask(CODE)

    assert arms(answer) == [(Arm.ADAPTER, False), (Arm.RETRIEVAL, True)]
    assert "cannot be read" in str(answer.attempts[0].error)


def test_nothing_is_tried_where_no_document_speaks_of_it(system: FakeSystem) -> None:
    answer = system.answerer().ask(CODE)

    assert answer.abstained
    assert (answer.attempts, answer.prompt_tokens, answer.completion_tokens) == ((), 0, 0)


def test_support_is_not_measured_where_no_policy_asks(system: FakeSystem) -> None:
    ingest(system)
    system.policy = replace(system.policy, checks=replace(system.policy.checks, support=False))

    [attempt] = system.answerer().ask(CODE).attempts

    assert attempt.accepted
    assert attempt.support is None


def test_the_log_gets_all_that_routing_looked_at(system: FakeSystem) -> None:
    document = ingest(system)
    [adapter] = system.catalog.adapters()
    record = system.catalog.get("manual.md")

    trace = system.answerer().trace(CODE, document_ids=["manual.md"], style=Style.FREE)
    entry = logged(trace, "a policy", "a model")

    assert trace.result().text == TEXT
    assert (entry.asked_arm, entry.asked_documents) == (None, ("manual.md",))
    assert (entry.asked_style, entry.style) == (Style.FREE, Style.FREE)
    assert (entry.policy, entry.model, entry.asked_at) == ("a policy", "a model", system.now)
    assert (entry.route, entry.arm, entry.answer) == (Arm.ADAPTER, Arm.ADAPTER, TEXT)
    [candidate] = entry.candidates
    assert candidate.content_hash == document.content_hash
    assert candidate.signals == record.signals
    assert candidate.ingested_at == record.ingested_at
    assert candidate.adapter_id == adapter.id
    assert entry.query == trace.routed.decision.query
    assert entry.timings_ms["total"] > 0


class Failing(FakeGenerator):
    def generate(self, prompts: Sequence[Prompt]) -> list[Generation]:
        raise QuestionError("The prompt has 9999 tokens.")


def test_an_error_of_the_model_is_told_and_raised(system: FakeSystem) -> None:
    ingest(system)
    system.generator = Failing()

    trace = system.answerer().trace(CODE, Arm.RETRIEVAL)
    entry = logged(trace, "default", "m")

    with pytest.raises(QuestionError, match="9999"):
        trace.result()
    with pytest.raises(QuestionError, match="9999"):
        system.answerer().ask(CODE, Arm.RETRIEVAL)
    assert entry.error == "QuestionError: The prompt has 9999 tokens."
    assert (entry.route, entry.arm, entry.answer) == (Arm.RETRIEVAL, None, "")
    assert not entry.abstained
    assert entry.asked_arm is Arm.RETRIEVAL
    assert entry.timings_ms["total"] > 0
