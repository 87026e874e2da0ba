"""`hybridqa eval effort`: what an adapter knows, against the time that was spent on making it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from hybridqa.config import Config
from hybridqa.errors import InputError
from hybridqa.eval.arms import TRAINED, ArmName, StyledArm
from hybridqa.eval.bench import Progress, silent
from hybridqa.eval.cases import Dataset
from hybridqa.eval.qa import QaReport, answerable, asked_about, compare
from hybridqa.eval.statistics import Interval, difference_interval
from hybridqa.eval.summary import clusters
from hybridqa.types import Style
from hybridqa.wiring import HybridQA

_CONTROLS = (ArmName.CONTEXT, ArmName.BASE, ArmName.ADAPTER, ArmName.WRONG_ADAPTER)


@dataclass(frozen=True, kw_only=True)
class EffortPlan:
    """What is compared."""

    steps: Sequence[int] = (5, 20, 60)
    """Of the optimizer: each many are taken from the hypernetwork's adapter on, and from zero."""
    documents: int = 8
    """Most documents; all their questions are asked."""
    seed: int = 0
    """Of the choice of documents, of training, and of the intervals."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """One way to make adapters, with what they know by themselves, in free wording."""

    arm: ArmName
    steps: int
    """0 for the hypernetwork."""
    seconds: float
    """For one document, mean; what the model asks itself included."""
    times: float
    """The same, of the hypernetwork's."""
    f1: Interval
    quoting: Interval
    """F1 where the answer must be a quotation of the document."""
    gained: Interval
    """F1 less that of the hypernetwork's adapter, paired."""


@dataclass(frozen=True, kw_only=True)
class EffortReport:
    """What was measured, and what is needed to measure it again."""

    data: str
    documents: int
    questions: int
    plan: EffortPlan
    efforts: Sequence[Effort]
    controls: dict[str, Interval]
    """F1 of other arms, in free wording."""
    about: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return what `hybridqa eval effort --json` prints."""
        return {
            "data": self.data,
            "documents": self.documents,
            "questions": self.questions,
            "plan": asdict(self.plan),
            "efforts": [asdict(effort) for effort in self.efforts],
            "controls": {name: each.as_dict() for name, each in self.controls.items()},
            **self.about,
        }


def run_effort(
    config: Config,
    dataset: Dataset,
    plan: EffortPlan,
    progress: Progress = silent,
    open_home: Callable[[Path, Config], HybridQA] = HybridQA,
) -> EffortReport:
    """Make adapters of the same documents with more and more effort, and ask the same questions.

    Args:
        config: Of the model and its limits; steps are the plan's.
        dataset: Its answerable questions are asked.
        plan: What is compared.
        progress: Told of every step.
        open_home: Opens a home directory; tests put fakes into it.

    Raises:
        InputError: The plan or the data cannot be used.
    """
    if not plan.steps or min(plan.steps) < 1:
        raise InputError(f"`--steps` must name numbers of at least 1, got {list(plan.steps)}.")
    if plan.documents < 2:
        raise InputError(
            f"`--documents` is {plan.documents}. It must be at least 2: the control wears the "
            "adapter of another document."
        )
    dataset = _some(dataset, plan)
    first = compare(config, dataset, _CONTROLS, plan.seed, progress, open_home)
    efforts = [_effort(first, first, ArmName.ADAPTER, 0, plan.seed)]
    for steps in sorted(plan.steps):
        internalize = replace(config.internalize, refinement_steps=steps, distillation_steps=steps)
        trained = replace(config, internalize=internalize)
        made = compare(trained, dataset, tuple(TRAINED), plan.seed, progress, open_home)
        efforts += [_effort(first, made, arm, steps, plan.seed) for arm in TRAINED]
    manifest = first.run.manifest
    return EffortReport(
        data=manifest.data,
        documents=manifest.documents,
        questions=manifest.questions,
        plan=plan,
        efforts=efforts,
        controls={
            str(arm): first.arms[str(arm)].f1 for arm in _CONTROLS if arm is not ArmName.ADAPTER
        },
        about={"model": dict(manifest.model), "machine": dict(manifest.machine)},
    )


def _some(dataset: Dataset, plan: EffortPlan) -> Dataset:
    """Return some documents with their answerable questions."""
    dataset = asked_about(answerable(dataset))
    ids = sorted({id for case in dataset.cases for id in case.documents})
    if len(ids) < 2:
        raise InputError(
            f"`{dataset.name}` has {len(ids)} documents that questions are known to be about. Use "
            "data with at least 2: the control wears the adapter of another document."
        )
    chosen = set(random.Random(plan.seed).sample(ids, min(plan.documents, len(ids))))
    cases = tuple(case for case in dataset.cases if chosen.issuperset(case.documents))
    return asked_about(replace(dataset, cases=cases))


def _effort(first: QaReport, made: QaReport, arm: ArmName, steps: int, seed: int) -> Effort:
    free, quoting = (str(StyledArm(arm, style)) for style in (Style.FREE, Style.QUOTE))
    start = str(StyledArm(ArmName.ADAPTER, Style.FREE))
    seconds = _seconds(made, TRAINED.get(arm))
    return Effort(
        arm=arm,
        steps=steps,
        seconds=seconds,
        times=seconds / _seconds(first, None),
        f1=made.arms[free].f1,
        quoting=made.arms[quoting].f1,
        gained=difference_interval(
            _scores(made, free), _scores(first, start), clusters(first.run.questions), seed
        ),
    )


def _seconds(report: QaReport, internalizer: str | None) -> float:
    """Return the mean time to make an adapter, by what made it or by all that made any."""
    adapters = report.run.manifest.adapters
    return fmean(row.seconds for row in adapters if internalizer in (None, row.internalizer))


def _scores(report: QaReport, arm: str) -> list[float]:
    return [value or 0.0 for value in report.run.table("f1")[arm]]
