"""Judging within a run: kept apart, resumable, never two judges in one folder."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hybridqa.errors import InputError
from hybridqa.eval.arms import ArmName
from hybridqa.eval.cases import Dataset
from hybridqa.eval.metrics.local_judge import LocalJudge
from hybridqa.eval.plan import Plan
from hybridqa.eval.rows import Run
from hybridqa.eval.runner import run
from hybridqa.eval.runs import read_run
from hybridqa.eval.scoring import Judging

METRICS = ("f1", "response_groundedness")


class OtherJudge(LocalJudge):
    endpoint = "elsewhere"


class AbsentJudge(LocalJudge):
    def check(self) -> None:
        raise InputError("The judge has gone out.")


def judged(homes: Any, rivers: Dataset, out: Path, **options: Any) -> Run:
    """Ask one arm, and let the random model judge: it says something, in the right form."""
    judge = options.pop("judge", LocalJudge)
    judging = Judging(
        judge=lambda qa: judge(qa.base, max_tokens=40), repeats=2, **options.pop("judging", {})
    )
    plan = Plan(dataset=rivers, arms=(ArmName.RETRIEVAL,), metrics=METRICS)
    run(homes.config, plan, out, judging=judging, open_home=homes, **options)
    return read_run(out)


def test_verdicts_stand_beside_the_other_scores(
    homes: Any, rivers: Dataset, tmp_path: Path
) -> None:
    finished = judged(homes, rivers, tmp_path / "run", judging={"limit": 2})

    told = finished.manifest.judge
    assert told is not None
    assert (told["name"], told["plumbing"]) == ("tiny-random-llama", True)
    first = {question.id for question in finished.questions[:2]}
    for row in finished.scores:
        known = "response_groundedness" in row.scores or "response_groundedness" in row.failures
        assert known == (row.question in first)
        assert "f1" in row.scores
    assert finished.manifest.seconds["judge"] > 0


def test_nothing_is_judged_twice(homes: Any, rivers: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "run"
    judged(homes, rivers, out, judging={"limit": 2})
    before = (out / "judgements.jsonl").read_text().splitlines()
    failed = [line for line in before if '"value": null' in line and "does not apply" not in line]
    again = judged(homes, rivers, out, judging={"limit": 2}, resume=True)
    after = (out / "judgements.jsonl").read_text().splitlines()

    assert after[: len(before)] == before
    assert len(after) == len(before) + len(failed)  # only what failed was tried once more
    assert again.manifest.judge is not None


def test_two_judges_do_not_mix(homes: Any, rivers: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "run"
    judged(homes, rivers, out, judging={"limit": 1})
    kept = (out / "judgements.jsonl").read_text()
    again = judged(homes, rivers, out, judge=OtherJudge, judging={"limit": 1}, resume=True)
    added = (out / "judgements.jsonl").read_text().removeprefix(kept)

    assert again.manifest.judge is not None
    assert again.manifest.judge["endpoint"] == "elsewhere"
    assert added.count("(elsewhere)") == len(added.splitlines()) == len(kept.splitlines())


def test_a_judge_that_is_not_there_costs_nothing(
    homes: Any, rivers: Dataset, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(InputError, match="gone out"):
        judged(homes, rivers, out, judge=AbsentJudge)
    assert not homes.generator.prompts
    complete = judged(homes, rivers, out, judging={"limit": 1}, resume=True)
    with pytest.raises(InputError, match="gone out"):
        judged(homes, rivers, out, judge=AbsentJudge, resume=True)
    assert read_run(out) == complete


def test_a_judge_is_needed_before_anything_is_asked(
    homes: Any, rivers: Dataset, tmp_path: Path
) -> None:
    plan = Plan(dataset=rivers, arms=(ArmName.BASE,), metrics=METRICS)
    with pytest.raises(InputError, match="response_groundedness need a judge"):
        run(homes.config, plan, tmp_path / "run", open_home=homes)
    assert not homes.generator.prompts
    judging = Judging(judge=lambda qa: LocalJudge(qa.base))
    idle = replace(plan, metrics=("f1",))
    with pytest.raises(InputError, match="none of the metrics f1 needs one"):
        run(homes.config, idle, tmp_path / "run", judging=judging, open_home=homes)
    with pytest.raises(InputError, match="At least 1 question must be judged, got 0"):
        Judging(judge=lambda qa: LocalJudge(qa.base), limit=0)
    with pytest.raises(InputError, match="batch size must be at least 1"):
        replace(plan, batch_size=0)
