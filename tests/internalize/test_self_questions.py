import re
from dataclasses import replace

import pytest

from hybridqa.internalize.self_questions import agreement, self_questions
from hybridqa.protocols import Generation, Prompt
from hybridqa.testing import FakeAsker
from hybridqa.types import Chunk, content_hash

TEXT = (
    "The Mistrel pump was built in Korvhaven in 1987. It weighs 48 kilograms.\n\n"
    "Anna Brandt of Delft designed its bronze impeller. A service costs € 120 since 12 May 2024."
)


def chunks_of(text: str) -> list[Chunk]:
    spans = [m.span() for m in re.finditer(r"[^\n]+", text)]
    return [
        Chunk(document_id="pump", content_hash=content_hash(text), start=a, end=b, text=text[a:b])
        for a, b in spans
    ]


class Changing(FakeAsker):
    """Asks always the same question, or finds always the same answer."""

    def __init__(self, question: str = "", answer: str = "") -> None:
        super().__init__()
        self._question, self._answer = question, answer

    def _generate(self, prompt: Prompt) -> Generation:
        made = super()._generate(prompt)
        if self._question and prompt.quote_from is None:
            return replace(made, text=self._question)
        if self._answer and prompt.quote_from and self._answer in prompt.quote_from[0]:
            start = prompt.quote_from[0].index(self._answer)
            span = (0, start, start + len(self._answer))
            return replace(made, text=self._answer, span=span, abstained=False)
        return made


def test_answers_stand_where_they_are_said_to_stand() -> None:
    questions = self_questions(FakeAsker(), None, chunks_of(TEXT), 8)

    assert len(questions) == 8
    for question in questions:
        assert TEXT[question.start : question.end] == question.answer
        assert question.agreement == 1.0
        assert question.question.endswith("?")


def test_questions_are_spread_over_all_chunks_and_ordered() -> None:
    questions = self_questions(FakeAsker(), None, chunks_of(TEXT * 3), 8)

    counts = [sum(q.chunk == n for q in questions) for n in range(len(chunks_of(TEXT * 3)))]
    assert min(counts) >= 1
    assert max(counts) - min(counts) <= 1
    assert [q.start for q in questions] == sorted(q.start for q in questions)


def test_the_same_seed_asks_the_same() -> None:
    def asked(seed: int) -> list[str]:
        return [q.answer for q in self_questions(FakeAsker(), None, chunks_of(TEXT), 6, seed)]

    assert asked(0) == asked(0)
    assert asked(0) != asked(1)


def test_the_text_and_the_wish_stand_in_the_prompt() -> None:
    asker = FakeAsker()

    self_questions(asker, None, chunks_of("Mr Korv owns 17 boats."), 1)

    asking, answering = asker.prompts[0], asker.prompts[-1]
    assert asking.passages == ["Mr Korv owns 17 boats."]
    assert asking.question.startswith("Write a question about this text whose answer is: ")
    assert answering.quote_from == ["Mr Korv owns 17 boats."]


def test_a_question_that_comes_back_with_another_answer_is_dropped() -> None:
    chunks = chunks_of("Korvhaven has a harbour. The lighthouse burned down.")

    found = self_questions(Changing(answer="burned down"), None, chunks, 8)

    assert found
    assert all("burned" in q.answer for q in found)
    assert len(self_questions(Changing(answer="burned down"), None, chunks, 8, 0, 0.0)) > len(found)


def test_a_question_that_gives_its_answer_away_is_dropped() -> None:
    chunks = chunks_of("Korvhaven has 17 boats.")

    answers = {q.answer for q in self_questions(Changing("Has it 17 boats?"), None, chunks, 8)}

    assert not any("17" in answer or "boats" in answer for answer in answers)


def test_the_same_question_is_kept_once() -> None:
    asker = Changing("What is it?", "Korvhaven")

    assert len(self_questions(asker, None, chunks_of("Korvhaven has 17 boats."), 8)) == 1


@pytest.mark.parametrize("text", ["", "   ", "a b c", "?!", "\ud800", "的" * 500])
def test_texts_without_good_spans_yield_what_they_can(text: str) -> None:
    self_questions(FakeAsker(), None, chunks_of(text), 4)


@pytest.mark.parametrize(
    ("answer", "expected", "score"),
    [
        ("24 months", "24 months", 1.0),
        ("the warranty of 24 months", "24 months", 1.0),
        ("The Hague", "Hague", 1.0),
        ("12 May", "13 May", 0.5),
        ("red", "reddish", 0.0),
        ("", "x", 0.0),
        ("the", "the", 0.0),
    ],
)
def test_agreement(answer: str, expected: str, score: float) -> None:
    assert agreement(answer, expected) == pytest.approx(score)
