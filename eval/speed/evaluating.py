"""What evaluation costs beyond the answers, and how quick its dashboard is."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from hybridqa.eval.arms import ArmName
from hybridqa.eval.dashboard import write_page
from hybridqa.eval.dashboard.measure import measure
from hybridqa.eval.datasets import load
from hybridqa.eval.filler import SAMPLE
from hybridqa.eval.metrics.catalog import GROUPS
from hybridqa.eval.plan import Plan
from hybridqa.eval.rows import Run
from hybridqa.eval.runner import run
from hybridqa.eval.runs import read_run
from hybridqa.eval.speed.pairs import spread
from hybridqa.eval.speed.report import SpeedRow
from hybridqa.eval.speed.workbench import Workbench
from hybridqa.eval.summary import summarize

_ARMS = tuple(arm for arm in ArmName if arm is not ArmName.DISTILLED)
_QUESTIONS = 1000
"""On the dashboard."""
_LIMIT_MS = 200.0


def scoring_overhead(bench: Workbench) -> SpeedRow:
    """Compare the time of scoring answers, without a judge, with that of making them."""
    found = []
    for n in range(bench.repeats(3)):
        told = evaluated(bench, seed=bench.seed + n).manifest
        found.append(told.seconds["score"] / told.seconds["answer"])
    return SpeedRow(
        name="scoring-overhead",
        description="scoring all arms' answers by all offline metrics, relative to making them",
        **spread(found),
        unit="x",
        target=0.1,
        at_least=False,
        details={"metrics": len(told.metrics), "answers": told.questions * len(told.arms)},
    )


def dashboard(bench: Workbench) -> SpeedRow:
    """Open the dashboard of 1,000 questions in Chromium, and filter them."""
    run = tiled(evaluated(bench, seed=bench.seed), _QUESTIONS)
    with tempfile.TemporaryDirectory(prefix="hybridqa-bench-") as folder:
        page = Path(folder) / "dashboard.html"
        size = write_page(page, run, summarize(run).as_dict())
        load_ms, filter_ms = measure(page, bench.repeats(7))
    slower = max(load_ms, filter_ms)
    return SpeedRow(
        name="dashboard",
        description=f"the dashboard of {_QUESTIONS:,} questions in Chromium: loading it, and "
        "filtering them, whichever is slower",
        measured=slower,
        low=slower,
        high=slower,
        unit="ms",
        target=_LIMIT_MS,
        at_least=False,
        details={
            "load_ms": round(load_ms, 1),
            "filter_ms": round(filter_ms, 1),
            "bytes": size,
            "arms": len(run.manifest.arms),
        },
    )


def evaluated(bench: Workbench, seed: int) -> Run:
    """Ask a few sample questions of all arms but `distilled`."""
    plan = Plan(
        dataset=load(str(SAMPLE)),
        arms=_ARMS,
        metrics=GROUPS["offline"],
        limit=3 if bench.quick else 12,
        seed=seed,
        timed=0,
    )
    with tempfile.TemporaryDirectory(prefix="hybridqa-bench-") as folder:
        run(bench.qa.config, plan, Path(folder) / "run", progress=bench.progress)
        return read_run(Path(folder) / "run")


def tiled(run: Run, questions: int) -> Run:
    """Return a run of so many questions: copies of its own."""
    few = len(run.questions)
    numbers = [str(n) for n in range(-(-questions // few))]
    asked = tuple(replace(row, id=f"{row.id}/{n}") for n in numbers for row in run.questions)
    kept = {row.id for row in asked[:questions]}
    answers = [replace(row, question=f"{row.question}/{n}") for n in numbers for row in run.answers]
    scores = [replace(row, question=f"{row.question}/{n}") for n in numbers for row in run.scores]
    return replace(
        run,
        manifest=replace(run.manifest, questions=questions),
        questions=asked[:questions],
        answers=tuple(row for row in answers if row.question in kept),
        scores=tuple(row for row in scores if row.question in kept),
    )
