import asyncio
import builtins
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybridqa.errors import InputError
from hybridqa.eval.metrics import ragas_metrics
from hybridqa.eval.metrics.catalog import GROUPS, METRICS
from hybridqa.eval.metrics.offline import score_offline
from hybridqa.eval.rows import AnswerRow, CitationRow, QuestionRow, SpanRow
from hybridqa.testing import FakeEmbedder

TEXTUAL = [name for name in GROUPS["offline"] if {"answer", "gold"} <= {*METRICS[name].reads}]


def scored(question: QuestionRow, *answers: AnswerRow, metrics: Any = None) -> list[Any]:
    rows = score_offline(
        metrics or GROUPS["offline"], [question], answers, FakeEmbedder(), lambda *_: None
    )
    assert [(row.question, row.arm) for row in rows] == [(a.question, a.arm) for a in answers]
    assert not any(row.failures for row in rows)
    return [row.scores for row in rows]


def question(**changes: Any) -> QuestionRow:
    plain = QuestionRow(id="q", question="?", answers=("27 days", "27"), documents=("a",))
    return replace(plain, **changes)


def answer(text: str = "", **changes: Any) -> AnswerRow:
    return replace(AnswerRow(question="q", arm="adapter", answer=text, route="adapter"), **changes)


def citation(document: str, start: int, end: int) -> CitationRow:
    return CitationRow(
        document=document, start=start, end=end, quote="", score=1.0, verified="exact"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("27 days", dict.fromkeys(TEXTUAL, 1.0)),
        (
            "days",  # not correct: the number is missing
            {
                "correct": 0,
                "exact_match": 0,
                "f1": 2 / 3,
                "rouge_l": 2 / 3,
                "string_similarity": 4 / 7,  # three of seven letters are missing
                "semantic_similarity": 2**-0.5,
                "abstention": 1,
            },
        ),
        (
            "it is 27 days",
            {
                "correct": 1,
                "exact_match": 0,
                "f1": 2 / 3,
                "rouge_l": 2 / 3,
                "string_similarity": 7 / 13,
                "semantic_similarity": 2 / 8**0.5,
            },
        ),
        ("weeks", {"correct": 0, "f1": 0, "semantic_similarity": 0, "abstention": 1}),
        ("", dict.fromkeys(TEXTUAL, 0.0)),
    ],
)
def test_known_values(text: str, expected: dict[str, float]) -> None:
    (found,) = scored(question(), answer(text))

    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-6), name


def test_scores_are_the_same_in_a_notebook() -> None:
    async def cell() -> list[dict[str, float | None]]:  # run by an event loop, as cells are
        return scored(question(), answer("27"))

    assert asyncio.run(cell()) == scored(question(), answer("27"))


def test_silence_is_right_exactly_where_no_document_says() -> None:
    silent, saying, failed = answer(), answer("27"), answer(error="the prompt is too long")

    found = scored(question(answers=(), documents=()), silent, saying, failed)

    assert [{row[name] for name in TEXTUAL} for row in found] == [{1.0}, {0.0}, {0.0}]
    assert [row["abstention"] for row in scored(question(), silent, saying, failed)] == [0, 1, 0]


def test_passages_and_citations_are_held_against_the_gold_spans() -> None:
    asked = question(
        documents=("a", "b"),
        spans=(
            SpanRow(document="a", start=10, end=20),
            SpanRow(document="b", start=0, end=5),
        ),
        retrieved=(
            SpanRow(document="c", start=0, end=99),
            SpanRow(document="a", start=0, end=99),
        ),
    )
    cites = answer("27", citations=(citation("a", 15, 40), citation("a", 30, 40)))

    citing, silent = scored(asked, cites, answer("27"))

    assert citing["context_precision"] == silent["context_precision"] == 1 / 2
    assert citing["context_recall"] == silent["context_recall"] == 1 / 2
    assert (citing["citation_precision"], citing["citation_recall"]) == (1 / 2, 1 / 2)
    assert (silent["citation_precision"], silent["citation_recall"]) == (None, 0)


def test_without_gold_spans_places_are_not_scored() -> None:
    (found,) = scored(question(), answer("27", citations=(citation("a", 0, 5),)))

    places = {name for name in GROUPS["offline"] if "spans" in METRICS[name].reads}
    assert {name for name, value in found.items() if value is None} == places


def test_metrics_with_a_judge_are_left_to_the_judge() -> None:
    (found,) = scored(question(), answer("27"), metrics=["faithfulness", "f1"])

    assert found == {"f1": 1.0}


def test_progress_names_every_metric() -> None:
    told: list[str] = []
    score_offline(
        ["f1", "semantic_similarity"],
        [question()],
        [answer("27")],
        FakeEmbedder(),
        lambda stage, done, total: told.append(f"{stage} {done}/{total}"),
    )

    assert told == [
        "scoring: F1 0/2",
        "scoring: Semantic similarity 1/2",
        "embedding answers 0/2",
    ]


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.text(max_size=20), st.lists(st.text(min_size=1, max_size=20), max_size=3))
def test_whatever_is_said_scores_lie_in_range(text: str, golds: list[str]) -> None:
    asked = question(answers=tuple(golds))

    (found,) = scored(asked, answer(text))

    for name, value in found.items():
        assert value is None or 0 <= value <= (1 if METRICS[name].binary else 1 + 1e-9)


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.text("abc 12", min_size=1, max_size=20).filter(str.strip))
def test_saying_the_gold_answer_is_right_by_every_metric(text: str) -> None:
    (found,) = scored(question(answers=("x", text)), answer(text))

    assert {name for name in TEXTUAL if found[name] < 1} <= {"rouge_l"}  # it knows no marks


def test_without_ragas_its_metrics_name_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any) -> Any:
        if name.startswith("ragas"):
            raise ModuleNotFoundError("No module named 'ragas'")
        return real(name, *args)

    ragas_metrics.collections.cache_clear()
    monkeypatch.setattr(builtins, "__import__", missing)

    assert scored(question(), answer("27"), metrics=["f1"]) == [{"f1": 1.0}]
    with pytest.raises(InputError, match=r"RAGAS is not installed.*pip install 'hybridqa\[eval\]'"):
        scored(question(), answer("27"), metrics=["string_similarity"])
