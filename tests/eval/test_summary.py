"""Through `summarize`: what a run's rows become, and how that is shown."""

import io
import json
import re
import time
from dataclasses import replace
from math import nan
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from hybridqa.errors import InputError
from hybridqa.eval.costs import seconds
from hybridqa.eval.metrics.catalog import METRICS
from hybridqa.eval.rows import (
    AdapterRow,
    AnswerRow,
    DocumentRow,
    Manifest,
    QuestionRow,
    Run,
    ScoreRow,
)
from hybridqa.eval.statistics import mean_interval
from hybridqa.eval.summary import clusters, summarize
from hybridqa.eval.summary_report import markdown, tables

ARMS = ("adapter+quote", "context+quote", "retrieval+quote", "auto")


def run_of(
    scores: dict[str, dict[str, list[float]]],
    documents: int = 2,
    **manifest: Any,
) -> Run:
    """Make a run whose answers cost what `answer` says; scores by metric and arm, nan for none."""
    arms = tuple(next(iter(scores.values())))
    n = len(next(iter(next(iter(scores.values())).values())))
    questions = tuple(
        QuestionRow(
            id=f"q{k}",
            question=f"What is {k}?",
            answers=(str(k),),
            documents=(f"d{k % documents}",),
            labels={"stability": "stable" if k % 3 else "volatile", "serial": str(k)},
        )
        for k in range(n)
    )
    return Run(
        path="runs/made",
        manifest=Manifest(
            **{
                "format": 1,
                "created_at": "2026-01-01T00:00:00+00:00",
                "complete": True,
                "command": "made",
                "data": "made",
                "data_sha256": "0",
                "questions": n,
                "documents": documents,
                "limit": None,
                "seed": 3,
                "arms": arms,
                "metrics": tuple(scores),
                "evidence": "gold and retrieved passages",
                "timed": n,
                "policy": {"style": "quote"},
                "config": {},
                "model": {"name": "fake"},
                "kv_bytes_per_token": 10,
                **manifest,
            }
        ),
        documents=tuple(
            DocumentRow(
                id=f"d{k}",
                title="",
                source="",
                text="a text " * (5 + 95 * k),
                content_hash="",
                tokens=10 + 190 * k,
            )
            for k in range(documents)
        ),
        questions=questions,
        answers=tuple(answer(question.id, arm) for question in questions for arm in arms),
        scores=tuple(
            ScoreRow(
                question=question.id,
                arm=arm,
                scores={
                    metric: None if np.isnan(values[arm][k]) else values[arm][k]
                    for metric, values in scores.items()
                },
            )
            for k, question in enumerate(questions)
            for arm in arms
        ),
    )


def answer(question: str, arm: str, **changes: Any) -> AnswerRow:
    reading = not arm.startswith("adapter")
    return AnswerRow(
        **{
            "question": question,
            "arm": arm,
            "answer": "something",
            "confidence": 0.75,
            "route": "retrieval" if arm == "auto" else arm.removesuffix("+quote"),
            "adapter_bytes": 0 if reading else 5000,
            "prompt_tokens": 100 if reading else 20,
            "completion_tokens": 5,
            "timings_ms": {
                "generate": 300.0 if reading else 200.0,
                "first_token": 250.0,
                "total": 500.0 if reading else 250.0,
            },
            **changes,
        }
    )


def alike(value: float, n: int = 6) -> dict[str, list[float]]:
    return {arm: [value] * n for arm in ARMS}


def test_a_cell_has_mean_interval_and_counts_of_what_was_and_was_not_scored() -> None:
    values = [0.0, 1.0, 0.5, nan, 0.5, 1.0]
    made = run_of({"f1": {**alike(0.5), "auto": values}, "faithfulness": alike(nan)})
    rows = [
        replace(row, failures={"faithfulness": "timed out"}) if row.arm == "auto" else row
        for row in made.scores
    ]

    found = summarize(replace(made, scores=tuple(rows)))

    cell = found.matrix["auto"]["f1"]
    known = [value for value in values if value == value]
    assert cell is not None
    assert (cell.mean, cell.n, cell.failed) == (0.6, 5, 0)
    expected = mean_interval(known, [0, 1, 0, 0, 1], seed=3)
    assert (cell.low, cell.high) == pytest.approx((expected.low, expected.high))
    failed = found.matrix["auto"]["faithfulness"]
    assert failed is not None
    assert (failed.mean, failed.n, failed.failed) == (None, 0, 6)
    assert found.matrix["adapter+quote"]["faithfulness"] is None


def test_abstentions_errors_and_routes_are_counted() -> None:
    made = run_of({"f1": alike(0.5)})
    changed = {
        ("q0", "auto"): {"answer": ""},
        ("q1", "auto"): {"answer": "", "error": "too long"},
        ("q2", "auto"): {"route": "adapter"},
    }
    answers = tuple(
        replace(row, **changed.get((row.question, row.arm), {})) for row in made.answers
    )

    found = summarize(replace(made, answers=answers))

    assert (found.abstained["auto"], found.errors["auto"]) == (1, 1)
    assert found.routes["auto"] == {"retrieval": 4, "adapter": 1}
    assert found.routes["context+quote"] == {"context": 6}
    text = markdown(found, sections=["matrix"])
    assert "| auto | 0.500 (0.500–0.500) | 1 + 1 failed |" in text
    assert "| context+quote | 0.500 (0.500–0.500) | 0 |" in text


def test_the_seed_is_the_runs_unless_another_is_given() -> None:
    rng = np.random.default_rng(0)
    made = run_of({"f1": {arm: rng.random(30).tolist() for arm in ARMS}}, documents=9)

    assert summarize(made) == summarize(made, seed=3)
    assert summarize(made).matrix != summarize(made, seed=4).matrix


def test_slices_have_counts_and_leave_out_what_tells_nothing() -> None:
    n = 66
    values = [float(k % 2) for k in range(n)]
    made = run_of({"f1": {**alike(0.0, n), "auto": values}})

    found = summarize(made).slices

    assert list(found) == ["stability", "document", "document length"]  # not: one value, 66 values
    assert {value: each.n for value, each in found["stability"].items()} == {
        "stable": 44,
        "volatile": 22,
    }
    stable = found["stability"]["stable"].arms["auto"]
    assert stable is not None
    assert (stable.mean, stable.low, stable.high) == (0.5, 0, 1)  # one of two documents is right
    document = found["document"]["d1"].arms["auto"]
    assert document is not None
    assert (document.mean, document.low, document.high) == (1, 1, 1)
    assert set(found["document length"]) == {"below 100 tokens", "100 to 299 tokens"}


def test_lengths_are_in_words_where_tokens_were_not_counted() -> None:
    made = run_of({"f1": alike(0.5)})
    untold = tuple(replace(row, tokens=None) for row in made.documents[:1]) + made.documents[1:]

    found = summarize(replace(made, documents=untold)).slices

    assert set(found["document length"]) == {"below 100 words", "100 to 299 words"}


def test_only_answers_have_a_calibration() -> None:
    made = run_of({"correct": {**alike(1.0), "auto": [1.0, 0, 1, 1, 0, 0]}})
    answers = tuple(
        replace(row, answer="") if row.question in ("q1", "q5") else row for row in made.answers
    )

    found = summarize(replace(made, answers=answers)).calibration["auto"]

    assert found.n == 4
    assert found.ece == pytest.approx(0)  # 3 of 4 right at a confidence of 0.75
    assert summarize(run_of({"f1": alike(0.5)})).calibration == {}


def test_times_count_only_of_questions_asked_alone() -> None:
    made = run_of({"f1": alike(0.5)})
    batched = {"batch": 4, "timings_ms": {}}
    answers = tuple(
        replace(row, **batched) if row.question != "q0" else row for row in made.answers
    )

    found = summarize(replace(made, answers=answers)).costs["adapter+quote"]

    assert found.timed == 1
    assert found.total_ms is not None
    assert (found.total_ms.median, found.total_ms.p95) == (250, 250)
    assert found.stages_ms == {"generate": 200}
    assert (found.prompt_tokens, found.completion_tokens) == (20, 5)
    assert (found.adapter_bytes, found.kv_bytes) == (5000, 250)


def test_times_are_of_the_same_questions_under_every_arm() -> None:
    made = run_of({"f1": alike(0.5)})
    batched = tuple(
        replace(row, timings_ms={}) if row.arm != "auto" and row.question != "q0" else row
        for row in made.answers
    )

    found = summarize(replace(made, answers=batched)).costs

    assert {cost.timed for cost in found.values()} == {1}


def test_questions_not_timed_under_every_arm_cost_each_its_mean() -> None:
    made = run_of({"f1": alike(0.5)})
    spent = {"q0": 100.0, "q1": 300.0}
    timed = tuple(
        replace(row, timings_ms={"total": spent[row.question]})
        if row.question in spent
        else replace(row, timings_ms={"total": 9000.0} if row.arm == "auto" else {})
        for row in made.answers
    )
    untimed = tuple(
        replace(row, timings_ms={}) if row.arm == "context+quote" else row for row in timed
    )

    some = seconds(replace(made, answers=timed))
    others = seconds(replace(made, answers=untimed))

    assert some == pytest.approx(np.array([[0.1] * 4, [0.3] * 4, *[[0.2] * 4] * 4]))
    assert np.isnan(others[:, 1]).all()
    assert others[:, [0, 2, 3]] == pytest.approx(some[:, [0, 2, 3]])


def test_questions_are_drawn_with_what_they_are_about() -> None:
    def row(**told: tuple[str, ...]) -> QuestionRow:
        return QuestionRow(id="q", question="?", answers=(), **{"documents": (), **told})

    rows = (row(documents=("d", "e")), row(about=("e", "d")), row())

    assert clusters(rows) == ["d", "e", "no document: q"]


def test_without_any_time_there_are_no_times_and_no_costly_regret() -> None:
    made = run_of({"f1": alike(0.5)})
    untimed = tuple(replace(row, timings_ms={}) for row in made.answers)

    found = summarize(replace(made, answers=untimed))

    assert found.costs["auto"].total_ms is None
    assert [each.name for each in found.regret] == ["quality"]
    assert {each.by for each in found.break_even} <= {"prompt tokens"}


def adapter(document: str, seconds: float) -> AdapterRow:
    return AdapterRow(
        document=document,
        id=document,
        internalizer="associative",
        rank=4,
        energy=1.0,
        size_bytes=100,
        seconds=seconds,
    )


def test_an_adapter_pays_from_a_number_of_questions_or_never() -> None:
    made = run_of({"f1": alike(0.5)}, adapters=(adapter("d0", 2.0), adapter("d1", 4.0)))
    slow = tuple(
        replace(row, timings_ms={"total": 700.0}) if row.arm == "adapter+quote" else row
        for row in made.answers
    )

    quick = {(each.other_arm, each.by): each for each in summarize(made).break_even}
    never = {
        (each.other_arm, each.by): each
        for each in summarize(replace(made, answers=slow)).break_even
    }

    time_, tokens = quick["retrieval+quote", "time"], quick["retrieval+quote", "prompt tokens"]
    assert (time_.cost_once, time_.saved_per_question, time_.questions) == (3, 0.25, 12)
    assert (tokens.cost_once, tokens.saved_per_question) == (105, 80)
    assert tokens.questions == pytest.approx(105 / 80)
    assert (
        quick.keys()
        == never.keys()
        == {
            (arm, by)
            for arm in ("context+quote", "retrieval+quote")
            for by in ("time", "prompt tokens")
        }
    )
    assert never["retrieval+quote", "time"].questions is None
    assert never["retrieval+quote", "prompt tokens"].questions is not None


def test_all_of_it_is_json_and_the_price_is_told() -> None:
    found = summarize(run_of({"f1": alike(0.5), "correct": alike(1.0)}))

    told = found.as_dict()

    assert json.loads(json.dumps(told, allow_nan=False))["primary"] == "f1"
    assert told["metrics"][1] == {
        "name": "correct",
        "label": METRICS["correct"].label,
        "description": METRICS["correct"].description,
        "judge": False,
    }
    priced = [each for each in told["assumptions"] if each.startswith("Quality at a cost")]
    assert "costs 0.2 of `f1`" in priced[0]  # retrieval takes half a second


def test_a_metric_of_a_newer_version_is_told() -> None:
    with pytest.raises(InputError, match=r"`novelty`.*Update hybridqa"):
        summarize(run_of({"novelty": alike(0.5)}))


def shown(made: Run, width: int = 200) -> str:
    output = io.StringIO()
    console = Console(file=output, width=width)
    for table in tables(summarize(made)):
        console.print(table)
    return output.getvalue()


JUDGED = {
    "judge": {
        "name": "tiny",
        "plumbing": True,
        "consistency": {"faithfulness": {"n": 20, "agreement": 0.85, "mean_difference": 0.05}},
    }
}


def test_tables_and_markdown_show_what_matters() -> None:
    scores = {
        "f1": {**alike(0.25, 12), "auto": [0.5, 1, 1, 0.5, 0.75, 0.75] * 2},
        "faithfulness": alike(0.5, 12),
    }
    made = run_of(scores, adapters=(adapter("d0", 2.0),), **JUDGED)

    terminal, readme = shown(made), markdown(summarize(made))

    for text in (terminal, readme):
        assert "Faithfulness†" in text
        assert "Judged by `tiny`" in text
        assert "85 % (Faithfulness, n = 20)" in text
        assert "plumbing" in text
        assert "− retrieval+quote" in text
        assert "8.0" in text  # questions to break even
    assert "| adapter+quote | 0.250 (0.250–0.250) | 0.500 (0.500–0.500) | 0 |" in readme
    assert "**+0.500 (+0.500 to +0.500)**" in readme


def test_nothing_is_cut_in_a_narrow_terminal() -> None:
    arms = ["adapter+quote", "wrong-adapter+quote", "retrieval+quote", "auto"]
    metrics = list(METRICS)[:10]
    scores = {metric: {arm: [0.5, 0.25, 1.0] for arm in arms} for metric in metrics}

    text = shown(run_of(scores, adapters=(adapter("d0", 2.0),)), width=80)

    matrix = text[: text.index("Paired differences")].splitlines()
    for arm in arms:
        rows = [line.split()[1:] for line in matrix if line.startswith(f" {arm} ")]
        assert rows == [["0.583"] * 4 + ["0"], ["0.583"] * 4 + ["0"], ["0.583"] * 2 + ["0"]]
    costs = text[text.index("What an answer costs") :]
    assert re.search(r"adapter\+quote +250 +250 +250 +20 +5 +0\.01 +0\.00 ", costs)


def test_sections_and_metrics_can_be_chosen() -> None:
    found = summarize(run_of({"f1": alike(0.5), "correct": alike(1.0)}))

    only = markdown(found, sections=["matrix"], metrics=["correct"])

    assert "| arm | Correct | abstained |" in only
    assert "Paired differences" not in only
    assert "instead of" not in markdown(found)  # no adapters, no break-even
    with pytest.raises(InputError, match=r"no section `costs\?`.*break-even"):
        markdown(found, sections=["costs?"])
    with pytest.raises(InputError, match=r"no metric `rouge_l`.*f1, correct"):
        markdown(found, metrics=["rouge_l"])


def test_failures_of_the_judge_are_shown() -> None:
    made = run_of({"f1": alike(0.5), "faithfulness": alike(nan)}, **JUDGED)
    failed = tuple(replace(row, failures={"faithfulness": "garbage"}) for row in made.scores)

    assert "–, judge failed on 6" in markdown(summarize(replace(made, scores=failed)))


def test_a_thousand_questions_take_less_than_two_seconds() -> None:
    arms = [
        f"{arm}{style}"
        for arm in ("base", "context", "adapter", "wrong-adapter", "retrieval", "both")
        for style in ("", "+quote")
    ]
    rng = np.random.default_rng(0)
    scores = {
        metric: {arm: rng.random(1000).tolist() for arm in [*arms, "auto"]}
        for metric in list(METRICS)[:10]
    }
    made = run_of(scores, documents=1000)

    started = time.process_time()
    found = summarize(made)

    assert found.n == 1000
    assert time.process_time() - started < 4  # 2 where nothing else runs
