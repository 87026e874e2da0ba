"""Score the answers of a run, have them judged if there is a judge, and complete the folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from hybridqa.errors import InputError
from hybridqa.eval import runs
from hybridqa.eval.bench import Progress
from hybridqa.eval.machine import peak_memory_bytes
from hybridqa.eval.metrics.catalog import METRICS
from hybridqa.eval.metrics.judgements import consistency, merge
from hybridqa.eval.metrics.judging import INAPPLICABLE, Judge, judge_answers
from hybridqa.eval.metrics.offline import score_offline
from hybridqa.eval.runs import AnswerRow, DocumentRow, JudgementRow, Manifest, QuestionRow
from hybridqa.wiring import HybridQA


@dataclass(frozen=True, kw_only=True)
class Judging:
    """Who judges, and how much."""

    judge: Callable[[HybridQA], Judge]
    """Called when there is something to judge; a local judge takes the loaded model."""
    limit: int | None = None
    """Judge the answers to the first so many questions only."""
    repeats: int = 20
    """Items of each metric that are judged twice, to see whether the judge agrees with itself."""

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise InputError(f"At least 1 question must be judged, got {self.limit}.")
        if self.repeats < 0:
            raise InputError(f"The judge's repeats must be 0 or more, got {self.repeats}.")


def check_metrics(metrics: Sequence[str], judging: Judging | None) -> None:
    """See that there is a judge if one is needed.

    Raises:
        InputError: There is none.
    """
    judged = [name for name in metrics if METRICS[name].judge]
    if judged and judging is None:
        raise InputError(
            f"The metrics {', '.join(judged)} need a judge. Name one with `--judge`: `local`, or "
            "the address of an OpenAI-compatible endpoint; or leave them out."
        )


def score_run(
    qa: HybridQA,
    out: Path,
    manifest: Manifest,
    judging: Judging | None,
    seed: int,
    progress: Progress,
) -> Manifest:
    """Score all answers of a run's folder, and complete it.

    Args:
        qa: Lends its embedder, and its model to a local judge.
        out: Folder in which all answers are.
        manifest: Says which metrics.
        judging: `None` if no metric needs a judge.
        seed: Of the choice of what is judged twice.
        progress: Told of every step.
    """
    questions = list(runs.read_rows(QuestionRow, out / runs.QUESTIONS))
    answers = list(runs.read_rows(AnswerRow, out / runs.ANSWERS))
    began = time.perf_counter()
    offline = [name for name in manifest.metrics if not METRICS[name].judge]
    scores = score_offline(offline, questions, answers, qa.embedder, progress)
    seconds = {**manifest.seconds, "score": round(time.perf_counter() - began, 3)}
    told = manifest.judge
    if judging:
        judge = judging.judge(qa)
        told = _told(out, manifest, judge, judging)
        # Before the first verdict, so that no other judge's are mixed with them.
        runs.write_manifest(out, replace(manifest, complete=False, judge=told))
        began = time.perf_counter()
        judge_answers(
            judge=judge,
            metrics=manifest.metrics,
            questions=questions,
            answers=answers,
            documents={row.id: row for row in runs.read_rows(DocumentRow, out / runs.DOCUMENTS)},
            embedder=qa.embedder,
            done=_done(out / runs.JUDGEMENTS),
            append=partial(runs.append_rows, out / runs.JUDGEMENTS),
            seed=seed,
            limit=judging.limit,
            repeats=judging.repeats,
            progress=progress,
        )
        seconds["judge"] = round(seconds.get("judge", 0.0) + time.perf_counter() - began, 3)
        judgements = runs.read_appended(JudgementRow, out / runs.JUDGEMENTS)
        scores = merge(scores, judgements)
        told = {**told, "consistency": consistency(judgements)}
    runs.write_rows(out / runs.SCORES, scores)
    manifest = replace(
        manifest,
        complete=True,
        judge=told,
        seconds=seconds,
        peak_memory_bytes=max(manifest.peak_memory_bytes, peak_memory_bytes()),
    )
    runs.write_manifest(out, manifest)
    return manifest


def _told(out: Path, manifest: Manifest, judge: Judge, judging: Judging) -> dict[str, Any]:
    """Return what the manifest says of a judge."""
    former = manifest.judge
    if former and (former["name"], former["endpoint"]) != (judge.name, judge.endpoint):
        raise InputError(
            f"The run `{out}` was judged by `{former['name']}` ({former['endpoint']}), now "
            f"`{judge.name}` ({judge.endpoint}) is to judge. Verdicts of two judges do not mix: "
            f"delete `{out / runs.JUDGEMENTS}` and `judge` in its manifest, or use a copy of it."
        )
    return {
        "name": judge.name,
        "endpoint": judge.endpoint,
        "plumbing": judge.plumbing,
        "limit": judging.limit,
        "consistency": {},
    }


def _done(kept: Path) -> set[tuple[str, str, str, int]]:
    """Return what need not be judged again: all but what failed, which is tried once more."""
    return {
        (row.question, row.arm, row.metric, row.repeat)
        for row in runs.read_appended(JudgementRow, kept)
        if row.value is not None or (row.error or "").startswith(INAPPLICABLE)
    }
