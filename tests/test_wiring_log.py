"""Questions asked of a home are logged, unless they should not be."""

import logging
from pathlib import Path

import pytest

from hybridqa.config import Config
from hybridqa.errors import QuestionError, UnknownDocumentError
from hybridqa.stores.question_log import read_log
from hybridqa.testing import FakeEmbedder, FakeGenerator, FakeInternalizer, tiny_model
from hybridqa.types import Arm, Document
from hybridqa.wiring import HybridQA

CODE = "What is the gate code?"
TEXT = "The gate code is walnut."


def opened(folder: Path, **settings: object) -> HybridQA:
    """Open a home with fakes for models and one document."""
    base = tiny_model()
    qa = HybridQA(folder, Config(**settings))  # type: ignore[arg-type]
    parts = {
        "base": base,
        "reader": None,
        "embedder": FakeEmbedder(),
        "generator": FakeGenerator(model_fingerprint=base.fingerprint),
        "task_adapters": {},
        "associative": FakeInternalizer(base.fingerprint),
    }
    for name, part in parts.items():
        setattr(qa, name, part)
    qa.ingest(Document(id="manual.md", text=TEXT, title="Gate manual", source="manual.md"))
    return qa


def test_every_answer_leaves_a_line(tmp_path: Path) -> None:
    with opened(tmp_path) as qa:
        answer = qa.ask(CODE)
        qa.ask("Who painted Guernica?", Arm.RETRIEVAL)

    first, second = read_log(tmp_path / "questions.jsonl")
    assert (first.question, first.answer, first.arm) == (CODE, TEXT, Arm.ADAPTER)
    assert first.model == tiny_model().fingerprint
    assert first.policy == "default"
    # The question is read twice, and once more with the passage; the check reads the answer too.
    assert first.prompt_tokens == answer.prompt_tokens
    assert first.prompt_tokens == 2 + len(f"{TEXT}\n\n") + first.completion_tokens
    assert (second.asked_arm, second.abstained) == (Arm.RETRIEVAL, True)


def test_explaining_and_bad_input_leave_none(tmp_path: Path) -> None:
    with opened(tmp_path) as qa:
        qa.explain(CODE)
        with pytest.raises(QuestionError):
            qa.ask(" ")
        with pytest.raises(UnknownDocumentError):
            qa.ask(CODE, document_ids=["nope.md"])

    assert not (tmp_path / "questions.jsonl").exists()


def test_the_log_can_be_switched_off(tmp_path: Path) -> None:
    with opened(tmp_path, log_questions=False) as qa:
        assert qa.ask(CODE).text == TEXT

    assert not (tmp_path / "questions.jsonl").exists()


@pytest.mark.parametrize("on", [True, False])
def test_deleting_a_document_removes_its_words(tmp_path: Path, on: bool) -> None:
    with opened(tmp_path) as qa:
        qa.ask(CODE)
    with opened(tmp_path, log_questions=on) as qa:
        qa.delete("manual.md")

    [entry] = read_log(tmp_path / "questions.jsonl")
    assert entry.redacted
    assert "walnut" not in (tmp_path / "questions.jsonl").read_text()
    assert entry.question == CODE


def test_a_log_that_cannot_be_written_costs_no_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "questions.jsonl").mkdir()

    with opened(tmp_path) as qa, caplog.at_level(logging.WARNING):
        assert qa.ask(CODE).text == TEXT
        assert qa.ask(CODE).text == TEXT

    assert len(caplog.messages) == 1
