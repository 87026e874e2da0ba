"""`hybridqa eval qa`: a quick comparison of arms on answerable questions; nothing is kept."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hybridqa.config import Config
from hybridqa.errors import InputError
from hybridqa.eval.arms import TRAINED, ArmName, comparisons, parse_arms, styled
from hybridqa.eval.bench import Progress, silent
from hybridqa.eval.cases import Dataset, choose
from hybridqa.eval.datasets import load
from hybridqa.eval.plan import Plan
from hybridqa.eval.rows import AnswerRow, Run
from hybridqa.eval.runner import run
from hybridqa.eval.runs import read_run
from hybridqa.eval.statistics import (
    Interval,
    difference_interval,
    mean_interval,
    ratio_interval,
)
from hybridqa.eval.summary import clusters
from hybridqa.wiring import HybridQA

DEFAULT_ARMS = tuple(arm for arm in ArmName if arm is not ArmName.AUTO and arm not in TRAINED)

_CONTEXT = "context"
_METRICS = ("f1", "exact_match", "rouge_l")


@dataclass(frozen=True, kw_only=True)
class ArmReport:
    """The scores of one arm over all questions, with 95 % intervals."""

    f1: Interval
    exact_match: Interval
    rouge_l: Interval
    relative_to_context: Interval | None
    """Mean F1 / mean F1 of `context`; `None` where that was not run or is 0."""
    abstained: int
    failed: int
    """Questions that could not be asked; they count as wrong."""
    routes: Mapping[str, int]

    def as_dict(self) -> dict[str, Any]:
        relative = self.relative_to_context
        return {
            "f1": self.f1.as_dict(),
            "exact_match": self.exact_match.as_dict(),
            "rouge_l": self.rouge_l.as_dict(),
            "relative_to_context": relative.mean if relative else None,
            "relative_to_context_interval": relative.as_dict() if relative else None,
            "abstained": self.abstained,
            "failed": self.failed,
            "routes": dict(self.routes),
        }


@dataclass(frozen=True, kw_only=True)
class QaReport:
    """A comparison of arms on one question set."""

    run: Run
    arms: Mapping[str, ArmReport]
    differences: Mapping[str, Interval]
    """Mean F1 of one arm minus another's, paired, by `one - other`."""
    skipped: int = 0
    """Questions of the file without a gold answer."""

    def as_dict(self) -> dict[str, Any]:
        """Return what `hybridqa eval qa --json` prints."""
        manifest = self.run.manifest
        return {
            "data": manifest.data,
            "n": manifest.questions,
            "seed": manifest.seed,
            "arms": {name: arm.as_dict() for name, arm in self.arms.items()},
            "differences": {name: d.as_dict() for name, d in self.differences.items()},
            "passages": manifest.documents,
            "skipped": self.skipped,
            "warnings": dict(manifest.warnings),
            "seconds": dict(manifest.seconds),
            "model": dict(manifest.model),
            "policy": manifest.policy["name"],
            "config": dict(manifest.config),
            "machine": dict(manifest.machine),
        }

    def rows(self) -> list[dict[str, Any]]:
        """Return every question with its outcomes by arm."""
        scores = {(row.question, row.arm): row.scores for row in self.run.scores}
        answers = {(row.question, row.arm): row for row in self.run.answers}
        return [
            {
                "passage": next(iter(question.documents), None),
                "question": question.question,
                "answers": list(question.answers),
                "outcomes": {
                    arm: {
                        **asdict(answers[question.id, arm]),
                        "scores": dict(scores[question.id, arm]),
                    }
                    for arm in self.arms
                },
            }
            for question in self.run.questions
        ]


def run_qa(
    config: Config,
    data: str | Path,
    arms: Sequence[str] = DEFAULT_ARMS,
    limit: int | None = None,
    seed: int = 0,
    batch_size: int = 16,
    progress: Progress = silent,
    open_home: Callable[[Path, Config], HybridQA] = HybridQA,
) -> QaReport:
    """Compare arms on answerable questions, in a folder that is removed afterwards.

    Only the documents asked about are taken in.

    Args:
        config: Of the model and its limits; its index URL is not used.
        data: Whatever `datasets.load` reads.
        arms: Names from `ArmName`.
        limit: Most questions; `None` asks all.
        seed: Of the choice of questions and of the intervals.
        batch_size: Most prompts that the model reads at once.
        progress: Told of every step.
        open_home: Opens a home directory; tests put fakes into it.

    Raises:
        InputError: File, arms, limit or batch size cannot be used.
    """
    chosen = parse_arms(arms)
    loaded = load(str(data))
    dataset = asked_about(choose(answerable(loaded), limit, seed))
    skipped = sum(not case.answerable for case in loaded.cases)
    compared = compare(config, dataset, chosen, seed, progress, open_home, batch_size)
    return replace(compared, skipped=skipped)


def compare(
    config: Config,
    dataset: Dataset,
    arms: Sequence[ArmName],
    seed: int,
    progress: Progress,
    open_home: Callable[[Path, Config], HybridQA],
    batch_size: int = 16,
) -> QaReport:
    """Compare arms on all questions of a dataset, which must be answerable; see `run_qa`."""
    plan = Plan(
        dataset=dataset,
        arms=tuple(arms),
        metrics=_METRICS,
        seed=seed,
        timed=0,
        batch_size=batch_size,
    )
    with tempfile.TemporaryDirectory(prefix="hybridqa-eval-") as folder:
        out = Path(folder) / "run"
        run(config, plan, out, progress=progress, open_home=open_home)
        return _report(read_run(out), arms, seed)


def answerable(dataset: Dataset) -> Dataset:
    """Return a dataset without the questions that have no gold answer.

    Raises:
        InputError: None has.
    """
    cases = tuple(case for case in dataset.cases if case.answerable)
    if not cases:
        raise InputError(
            f"None of the {len(dataset.cases)} questions of `{dataset.name}` has a gold answer. "
            "Use data whose questions have `answers`."
        )
    return replace(dataset, cases=cases)


def asked_about(dataset: Dataset) -> Dataset:
    """Return a dataset without the documents that no question is about."""
    if not all(case.documents for case in dataset.cases):  # nobody knows which
        return dataset
    asked = {id for case in dataset.cases for id in case.documents}
    documents = tuple(document for document in dataset.documents if document.id in asked)
    return replace(dataset, documents=documents)


def _report(run: Run, arms: Sequence[ArmName], seed: int) -> QaReport:
    drawn_with = clusters(run.questions)
    tables = {metric: run.table(metric) for metric in _METRICS}
    f1 = {arm: _numbers(values) for arm, values in tables["f1"].items()}
    names = styled(arms)
    answers: dict[str, list[AnswerRow]] = {str(arm): [] for arm in names}
    for row in run.answers:
        answers[row.arm].append(row)

    def mean(metric: str, arm: str) -> Interval:
        return mean_interval(_numbers(tables[metric][arm]), drawn_with, seed)

    return QaReport(
        run=run,
        arms={
            arm: ArmReport(
                f1=mean("f1", arm),
                exact_match=mean("exact_match", arm),
                rouge_l=mean("rouge_l", arm),
                relative_to_context=ratio_interval(f1[arm], f1[_CONTEXT], drawn_with, seed)
                if _CONTEXT in f1
                else None,
                abstained=sum(row.abstained for row in rows),
                failed=sum(row.error is not None for row in rows),
                routes=dict(Counter(row.route for row in rows)),
            )
            for arm, rows in answers.items()
        },
        differences={
            f"{one} - {other}": difference_interval(f1[str(one)], f1[str(other)], drawn_with, seed)
            for one, other in comparisons(names)
        },
    )


def _numbers(values: Sequence[float | None]) -> list[float]:
    """Return scores; the metrics asked for here always have one where there is a gold answer."""
    return [value for value in values if value is not None]
