"""Score the answers of a run, have them judged if there is a judge, and complete the folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hybridqa.errors import InputError
from hybridqa.eval import runs
from hybridqa.eval.bench import Progress
from hybridqa.eval.machine import peak_memory_bytes
from hybridqa.eval.metrics.catalog import METRICS
from hybridqa.eval.metrics.judgements import consistency, merge
from hybridqa.eval.metrics.judging import INAPPLICABLE, Judge, judge_answers
from hybridqa.eval.metrics.offline import score_offline
from hybridqa.eval.rows import AnswerRow, DocumentRow, JudgementRow, Manifest, QuestionRow
from hybridqa.protocols import Embedder
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
    """See that there is a judge if, and only if, one is needed.

    Raises:
        InputError: There is none, or it has nothing to do.
    """
    judged = [name for name in metrics if METRICS[name].judge]
    if judged and judging is None:
        raise InputError(
            f"The metrics {', '.join(judged)} need a judge. Name one with `--judge`: `local`, or "
            "the address of an OpenAI-compatible endpoint; or leave them out."
        )
    if judging and not judged:
        raise InputError(
            f"There is a judge, but none of the metrics {', '.join(metrics)} needs one. Add some "
            "with `--metrics`, e.g. `all`, or leave the judge out."
        )


def score_run(
    out: Path,
    manifest: Manifest,
    embedder: Embedder,
    judge: Judge | None,
    judging: Judging | None,
    seed: int,
    progress: Progress,
) -> Manifest:
    """Score all answers of a run's folder, and complete it.

    Args:
        out: Folder in which all answers are.
        manifest: Says which metrics.
        embedder: For similarities.
        judge: `None` if no metric needs one.
        judging: How much it is to judge.
        seed: Of the choice of what is judged twice.
        progress: Told of every step.
    """
    questions = list(runs.read_rows(QuestionRow, out / runs.QUESTIONS))
    answers = list(runs.read_rows(AnswerRow, out / runs.ANSWERS))
    runs.write_manifest(out, replace(manifest, complete=False))
    seconds, told = dict(manifest.seconds), None
    began = time.perf_counter()
    scores = score_offline(manifest.metrics, questions, answers, embedder, progress)
    seconds["score"] = round(time.perf_counter() - began, 3)
    if judge and judging:
        kept = _Verdicts(out / runs.JUDGEMENTS, f"{judge.name} ({judge.endpoint})")
        began = time.perf_counter()
        judge_answers(
            judge=judge,
            metrics=manifest.metrics,
            questions=questions,
            answers=answers,
            documents={row.id: row for row in runs.read_rows(DocumentRow, out / runs.DOCUMENTS)},
            embedder=embedder,
            done=kept.done(),
            append=kept.append,
            seed=seed,
            limit=judging.limit,
            repeats=judging.repeats,
            progress=progress,
        )
        spent_s = time.perf_counter() - began
        seconds["judge"] = round(seconds.get("judge", 0.0) + spent_s, 3)
        judgements = [row for row in kept.read() if row.metric in manifest.metrics]
        scores = merge(scores, judgements)
        told = {
            "name": judge.name,
            "endpoint": judge.endpoint,
            "plumbing": judge.plumbing,
            "limit": judging.limit,
            "consistency": consistency(judgements),
        }
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


class _Verdicts:
    """One judge's rows in a file that others may have written to."""

    def __init__(self, path: Path, judge: str) -> None:
        self._path, self._judge = path, judge

    def append(self, rows: Sequence[JudgementRow]) -> None:
        runs.append_rows(self._path, [replace(row, judge=self._judge) for row in rows])

    def read(self) -> list[JudgementRow]:
        every = runs.read_appended(JudgementRow, self._path)
        return [row for row in every if row.judge == self._judge]

    def done(self) -> set[tuple[str, str, str, int]]:
        """Return what need not be judged again: all but what failed, which is tried once more."""
        return {
            (row.question, row.arm, row.metric, row.repeat)
            for row in self.read()
            if row.value is not None or (row.error or "").startswith(INAPPLICABLE)
        }
