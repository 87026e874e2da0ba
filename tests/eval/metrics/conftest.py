"""A lamp, what is asked about it, and what a judge says of the answers."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from hybridqa.eval.rows import AnswerRow, DocumentRow, QuestionRow, SpanRow

TEXT = "The Corvane lamp was designed by Ilse Marrow in 1987. It weighs 840 grams."


def _span(part: str) -> SpanRow:
    start = TEXT.index(part)
    return SpanRow(document="lamp", start=start, end=start + len(part))


@dataclass(frozen=True)
class Asked:
    """One question that the lamp's document answers and one that it does not."""

    questions: tuple[QuestionRow, QuestionRow]
    answers: tuple[AnswerRow, ...]
    documents: dict[str, DocumentRow]


@pytest.fixture
def asked() -> Asked:
    first, second = TEXT[:53], TEXT[54:]
    weigh = QuestionRow(
        id="weigh",
        question="How much does the Corvane lamp weigh?",
        answers=("840 grams", "840 g"),
        documents=("lamp",),
        spans=(_span("840 grams"),),
        evidence=(_span(TEXT),),
        retrieved=(_span(first), _span(second)),
    )
    cost = QuestionRow(id="cost", question="What does it cost?", answers=(), documents=())
    said = "It weighs 840 grams and was made in Paris."
    answers = (
        AnswerRow(question="weigh", arm="adapter", answer=said, route="adapter"),
        AnswerRow(question="weigh", arm="retrieval", answer=said, route="retrieval"),
        AnswerRow(question="weigh", arm="base", answer="", route="base"),
        AnswerRow(question="weigh", arm="both", answer="", error="too long", route="both"),
        AnswerRow(question="cost", arm="adapter", answer="12 euros", route="adapter"),
    )
    document = DocumentRow(id="lamp", title="Lamp", source="lamp.txt", text=TEXT, content_hash="x")
    return Asked((weigh, cost), answers, {"lamp": document})


@pytest.fixture(scope="session")
def reply() -> Callable[[str], str]:
    """Return what a judge replies to a prompt: the first of the recorded that fits."""
    recorded = json.loads(Path(__file__).with_name("chat_completions.json").read_text())

    def find(prompt: str) -> str:
        for exchange in recorded:
            if all(part in prompt for part in exchange["when"]):
                return json.dumps(exchange["content"])
        raise LookupError(f"nothing is recorded for {prompt[-300:]!r}")

    return find
