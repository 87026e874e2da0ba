"""Gates: what is let in, what is not, and runs that cannot be compared."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hybridqa
from hybridqa.config import load_yaml
from hybridqa.errors import ConfigError, InputError
from hybridqa.eval.gate import Check, GateConfig, Latency, gate, run_gate
from hybridqa.eval.rows import AnswerRow, DocumentRow, Manifest, QuestionRow, Run, ScoreRow
from hybridqa.eval.runs import write_manifest, write_rows

GATES = sorted((Path(hybridqa.__file__).parent / "configs" / "gates").glob("*.yaml"))
N = 60
BEFORE = np.random.default_rng(0).random(N).tolist()


def run_of(
    values: Sequence[float | None], metric: str = "f1", seconds: float = 0.5, **manifest: Any
) -> Run:
    """Make a run of one arm, `auto`, with these scores."""
    ids = [f"q{n}" for n in range(len(values))]
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
                "questions": len(values),
                "documents": 1,
                "limit": None,
                "seed": 0,
                "arms": ("auto",),
                "metrics": (metric,),
                "evidence": "gold passages",
                "timed": len(values),
                "policy": {"style": "quote"},
                "config": {},
                "model": {"name": "fake"},
                **manifest,
            }
        ),
        documents=(DocumentRow(id="d", title="", source="", text="text", content_hash=""),),
        questions=tuple(
            QuestionRow(id=each, question=f"{each}?", answers=("a",), documents=("d",))
            for each in ids
        ),
        answers=tuple(
            AnswerRow(
                question=each,
                arm="auto",
                answer="a",
                route="retrieval",
                timings_ms={"total": 1000 * seconds},
            )
            for each in ids
        ),
        scores=tuple(
            ScoreRow(question=each, arm="auto", scores={metric: value})
            for each, value in zip(ids, values, strict=True)
        ),
    )


def config(*checks: Check, latency: tuple[Latency, ...] = (), **changes: Any) -> GateConfig:
    return GateConfig(
        **{
            "name": "test",
            "description": "",
            "min_questions": 50,
            "checks": checks or (Check(metric="f1", arm="auto", margin=0.05),),
            "latency": latency,
            **changes,
        }
    )


def changed(by: float, noise: float = 0.0) -> list[float]:
    return (np.array(BEFORE) + by + noise * np.random.default_rng(1).normal(size=N)).tolist()


@pytest.mark.parametrize(
    ("after", "passes"),
    [
        (BEFORE, True),
        (changed(-0.04), True),  # certainly worse, but by less than the margin
        (changed(-0.06), False),
        (changed(0.0, noise=0.5), False),  # perhaps no worse, but that is not known
        (changed(0.5, noise=0.5), True),
    ],
)
def test_the_interval_must_lie_above_the_margin(after: list[float], passes: bool) -> None:
    report = gate(config(), run_of(BEFORE), run_of(after))

    assert report.passed is passes
    (check,) = report.checks
    assert check.n == N
    assert check.baseline == pytest.approx(np.mean(BEFORE))
    assert check.change is not None
    assert check.change.mean == pytest.approx(np.mean(after) - np.mean(BEFORE))
    assert (check.change.low > -0.05) is passes
    assert bool(check.failures) is not passes


def test_questions_are_paired_whatever_their_order() -> None:
    before, after = run_of(BEFORE), run_of(BEFORE)
    after = replace(after, questions=after.questions[::-1], scores=after.scores[::-1])

    (check,) = gate(config(), before, after).checks

    assert check.change is not None
    assert (check.change.low, check.change.high) == (0, 0)


def test_means_may_be_bounded_from_either_side() -> None:
    candidate = run_of([0.5] * N)
    limits = [{"min_mean": 0.5}, {"min_mean": 0.51}, {"max_mean": 0.5}, {"max_mean": 0.49}]
    checks = [Check(metric="f1", arm="auto", **limit) for limit in limits]

    report = gate(config(*checks), run_of(BEFORE), candidate)

    assert [check.passed for check in report.checks] == [True, False, True, False]


def test_too_few_scored_in_both_runs_let_nothing_in() -> None:
    missing = [None if n < 20 else value for n, value in enumerate(BEFORE)]

    (check,) = gate(config(), run_of(BEFORE), run_of(missing)).checks
    (empty,) = gate(config(), run_of(BEFORE), run_of([None] * N)).checks

    assert check.failures == ["only 40 scored in both runs"]
    assert (empty.n, empty.change, empty.passed) == (0, None, False)


def test_a_judge_that_fails_too_often_lets_nothing_in() -> None:
    judge = {"name": "judge"}
    made = run_of(BEFORE, metric="faithfulness", judge=judge)
    failing = replace(
        made,
        scores=tuple(
            replace(row, scores={"faithfulness": None}, failures={"faithfulness": "timed out"})
            if n < 6
            else row
            for n, row in enumerate(made.scores)
        ),
    )
    few = config(Check(metric="faithfulness", arm="auto", margin=0.05, max_failed=0.1))
    fewer = config(Check(metric="faithfulness", arm="auto", margin=0.05, max_failed=0.09))

    assert gate(few, made, failing).passed
    assert gate(fewer, made, failing).checks[0].failures == ["failed on 10.0%"]


def test_a_judge_is_measured_by_what_it_was_to_score() -> None:
    judge = {"name": "judge"}
    made = run_of([*BEFORE[:20], *[None] * 40], metric="faithfulness", judge=judge)
    failing = replace(
        made,
        scores=tuple(
            replace(row, scores={"faithfulness": None}, failures={"faithfulness": "timed out"})
            if n < 5
            else row
            for n, row in enumerate(made.scores)
        ),
    )
    check = Check(metric="faithfulness", arm="auto", max_failed=0.2)
    silent = run_of([None] * N, metric="faithfulness", judge=judge)

    report = gate(config(check, min_questions=2), made, failing)

    assert report.checks[0].failures == ["failed on 25.0%"]
    assert gate(config(check), made, silent).checks[0].failures == ["only 0 scored in both runs"]


def test_two_judges_are_not_compared() -> None:
    one, other = (
        run_of(BEFORE, metric="faithfulness", judge={"name": name}) for name in ("one", "other")
    )
    checked = config(Check(metric="faithfulness", arm="auto", margin=0.05))

    with pytest.raises(InputError, match=r"`one` judged.*`other`.*one judge score both"):
        gate(checked, one, other)


@pytest.mark.parametrize(("seconds", "passes"), [(0.5, True), (0.6, True), (0.61, False)])
def test_answers_may_become_a_little_slower(seconds: float, passes: bool) -> None:
    checked = config(latency=(Latency(arm="auto", max_ratio=1.2),))

    report = gate(checked, run_of(BEFORE), run_of(BEFORE, seconds=seconds))

    assert report.passed is passes
    assert report.checks[-1].candidate == pytest.approx(1000 * seconds)


def test_runs_without_times_do_not_pass_for_quick_ones() -> None:
    made = run_of(BEFORE)
    untimed = replace(made, answers=tuple(replace(row, timings_ms={}) for row in made.answers))

    report = gate(config(latency=(Latency(arm="auto", max_ratio=2),)), made, untimed)

    assert report.checks[-1].failures == ["only 0 timed in both runs"]


def test_different_questions_are_not_compared() -> None:
    before, after = run_of(BEFORE), run_of(BEFORE)
    other = (replace(after.questions[0], answers=("another",)), *after.questions[1:])

    with pytest.raises(
        InputError, match=r"has 60 and .* 60; 59 of them are in both.*same `--data`"
    ):
        gate(config(), before, replace(after, questions=other))
    with pytest.raises(InputError, match=r"has 60 and .* 30; 30 of them are in both"):
        gate(config(), before, run_of(BEFORE[:30]))


def test_other_data_of_the_same_questions_are_fine_and_told() -> None:
    report = gate(config(), run_of(BEFORE), run_of(BEFORE, data_sha256="1", policy={"name": "new"}))

    assert report.passed
    assert "not the data" in report.notes[0]
    assert "`policy`" in report.notes[1]


@pytest.mark.parametrize("what", ["config", "versions"])
def test_other_settings_are_told(what: str) -> None:
    changed: dict[str, Any] = {what: {"torch": "2.9"}}

    assert gate(config(), run_of(BEFORE), run_of(BEFORE)).notes == ()
    (note,) = gate(config(), run_of(BEFORE), run_of(BEFORE, **changed)).notes

    assert f"`{what}`" in note


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (Check(metric="rouge_l", arm="auto", margin=0.1), r"metric `rouge_l`.*It has f1\."),
        (Check(metric="f1", arm="both", margin=0.1), r"arm `both`.*It has auto\."),
    ],
)
def test_what_a_run_does_not_have_cannot_be_checked(check: Check, message: str) -> None:
    with pytest.raises(InputError, match=message):
        gate(config(check), run_of(BEFORE), run_of(BEFORE))


def test_the_report_is_short_markdown_and_json() -> None:
    report = gate(
        config(latency=(Latency(arm="auto", max_ratio=2),)), run_of(BEFORE), run_of(changed(-0.5))
    )

    text, told = report.markdown(), json.loads(json.dumps(report.as_dict(), allow_nan=False))

    assert text.startswith("**Gate `test` failed**: `runs/made` against `runs/made`, 60 questions.")
    assert "| `f1` of `auto` | 60 |" in text
    assert "-0.500 (-0.500 to -0.500) | loses less than 0.05; n at least 50 |" in text
    assert "**failed**: may have lost 0.500 |" in text
    assert "| 500 ms | 500 ms |" in text
    assert told["passed"] is False
    assert [check["passed"] for check in told["checks"]] == [False, True]


@pytest.mark.parametrize("path", GATES, ids=lambda path: path.stem)
def test_every_shipped_gate_loads_and_asks_for_arms_that_there_are(path: Path) -> None:
    from hybridqa.eval.arms import ArmName, styled

    loaded = load_yaml(GateConfig, path)

    assert loaded.name == path.stem
    assert {each.arm for each in (*loaded.checks, *loaded.latency)} <= set(
        map(str, styled(tuple(ArmName)))
    )


def test_there_is_a_default_gate() -> None:
    assert "default" in {path.stem for path in GATES}


@pytest.mark.parametrize(
    ("check", "message"),
    [
        ("{metric: f1, arm: auto}", "no limit"),
        ("{metric: nope, arm: auto, margin: 0.1}", "no metric `nope`.*f1"),
        ("{metric: f1, arm: auto, margin: 0}", "greater than 0"),
        ("{metric: f1, arm: auto, margins: 0.1}", "`checks.0.margins`"),
    ],
)
def test_a_wrong_gate_is_told(check: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text(f"name: x\ndescription: x\nmin_questions: 9\nchecks: [{check}]\n")

    with pytest.raises(ConfigError, match=message):
        load_yaml(GateConfig, path)


def test_a_gate_judges_folders(tmp_path: Path) -> None:
    made = run_of(BEFORE)
    path = tmp_path / "gate.yaml"
    path.write_text(
        "name: x\ndescription: x\nmin_questions: 9\n"
        "checks: [{metric: f1, arm: auto, margin: 0.05}]\n"
    )
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("documents", "questions", "answers", "scores"):
        write_rows(folder / f"{name}.jsonl", getattr(made, name))
    write_manifest(folder, made.manifest)

    assert run_gate(path, folder, folder).passed
    with pytest.raises(InputError, match="no run in"):
        run_gate(path, folder, tmp_path / "nowhere")
