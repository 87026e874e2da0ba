"""`hybridqa eval weigh`: fit how a locator's places are weighed by what judges say of them.

Each question is asked with the passages found for it, and once more with passages that do not hold
its answer. What the best places and the judges say of them are the features of a conditional logit
(McFadden 1974) over the places and "none of them", whose coefficients are a `Round`'s.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from hybridqa.config import Config
from hybridqa.engines.prompts import Prompts, each_worn
from hybridqa.errors import InputError
from hybridqa.eval.bench import Progress, scratch, silent
from hybridqa.eval.cases import Case, Dataset
from hybridqa.eval.grid import Grid
from hybridqa.eval.metrics.text import token_f1
from hybridqa.eval.probes.fitting import minimized
from hybridqa.eval.probes.lab import Lab, told
from hybridqa.eval.probes.others import not_answering, without_measured
from hybridqa.internalize.locating import PLACES
from hybridqa.internalize.weighing import Found, passed_on, prompt_for, said_of, texts_for
from hybridqa.protocols import Judge, Judgement, Look
from hybridqa.types import AdapterRecord, Hit, Style
from hybridqa.wiring import HybridQA

_RIGHT = 0.3
"""F1 that the best of a question's places must have, or else the question teaches nothing."""
_SHRINKAGE = 1e-3


class Ways(StrEnum):
    """What weighs places."""

    PLACES = "the locator"
    READ = "and the reader"
    BOTH = "and adapters"


_FEATURES = {
    Ways.PLACES: ("odds", "none"),
    Ways.READ: ("odds", "none", "reader"),
    Ways.BOTH: ("odds", "none", "reader", "adapter", "bare"),
}


@dataclass(frozen=True, kw_only=True)
class WeighPlan:
    """What is fitted on."""

    limit: int = 100
    """Most questions of each dataset."""
    without: int = 0
    """Questions that are kept for measuring: those that `eval run --limit` chooses."""
    absent: float = 0.05
    """Weight of a question that is asked with passages that do not hold its answer."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A question with two passages: places in them, then that none of these is the answer."""

    features: Mapping[str, Sequence[float]]
    """By name, one a place and one for none."""
    f1: Sequence[float]
    """Of each place."""
    answerable: bool

    def right(self) -> list[bool] | None:
        """Return which choices are right; `None` where no place is."""
        if not self.answerable:
            return [False] * len(self.f1) + [True]
        best = max(self.f1)
        return [f1 == best for f1 in self.f1] + [False] if best > _RIGHT else None


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """One way to weigh places."""

    ways: Ways
    weights: Mapping[str, float]
    """By feature; `none` is the logit that nothing is the answer."""
    f1: float
    """Of the answers to the questions with their own passages."""
    abstained: float
    """Share of these that got none."""
    abstained_rightly: float
    """Share of the questions without the right passages that got none."""


@dataclass(frozen=True, kw_only=True)
class WeighReport:
    """What was fitted, and what is needed to fit it again."""

    data: Sequence[str]
    questions: int
    plan: WeighPlan
    fitted: Sequence[Fitted]
    about: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return what `hybridqa eval weigh --json` prints."""
        return {
            "data": list(self.data),
            "questions": self.questions,
            "plan": asdict(self.plan),
            "fitted": [asdict(each) for each in self.fitted],
            **self.about,
        }


def run_weighing(
    config: Config,
    datasets: Sequence[Dataset],
    plan: WeighPlan,
    progress: Progress = silent,
    open_home: Callable[[Path, Config], HybridQA] = HybridQA,
) -> WeighReport:
    """Fit the weights of a locator's places and of their judges.

    Args:
        config: Of the models.
        datasets: Each is searched by itself.
        plan: What is fitted on.
        progress: Told of every step.
        open_home: Opens a home directory; tests put fakes into it.

    Raises:
        InputError: There is no locator, or nothing to fit on.
    """
    trials: list[tuple[Trial, Trial]] = []
    about: dict[str, Any] = {}
    for dataset in datasets:
        with scratch(config, open_home) as qa:
            about = Lab(qa).about()
            trials += _trials(qa, dataset, plan, progress)
    answerable = sum(located.answerable for located, _ in trials)
    if not answerable or answerable == len(trials):
        raise InputError(
            f"Of {len(trials)} trials {answerable} hold the answer; weights need some that do and "
            "some that do not. Use data with more questions, on several documents."
        )
    return WeighReport(
        data=[dataset.name for dataset in datasets],
        questions=answerable,
        plan=plan,
        fitted=[
            _fitted(ways, [trial[ways is not Ways.PLACES] for trial in trials], plan.absent)
            for ways in Ways
        ],
        about=about,
    )


def grid(report: WeighReport) -> Grid:
    """Return a table of all ways to weigh."""
    return Grid(
        title="Places weighed by",
        columns=("", *_FEATURES[Ways.BOTH], "F1", "says nothing", "where nothing is right"),
        rows=[
            (
                each.ways,
                *(
                    f"{each.weights[name]:.2f}" if name in each.weights else "-"
                    for name in _FEATURES[Ways.BOTH]
                ),
                f"{each.f1:.3f}",
                f"{each.abstained:.0%}",
                f"{each.abstained_rightly:.0%}",
            )
            for each in report.fitted
        ],
        caption=(
            f"{report.questions} questions of {', '.join(report.data)}, each with the passages "
            f"found for it and, at a weight of {report.plan.absent:g}, with others; seed "
            f"{report.plan.seed}; {told(report.about)}. F1 is of the questions fitted on."
        ),
    )


def _trials(
    qa: HybridQA, dataset: Dataset, plan: WeighPlan, progress: Progress
) -> list[tuple[Trial, Trial]]:
    if qa.locator is None:
        raise InputError(
            "The config says `internalize: locator: null`, and places are what is weighed. Set it "
            "to `embedded`, or to a locator."
        )
    cases = without_measured(dataset, plan.without, plan.seed).cases
    chosen = random.Random(plan.seed).sample(cases, min(plan.limit, len(cases)))
    records: dict[str, AdapterRecord | None] = {}
    for n, document in enumerate(dataset.documents, 1):
        records[document.id] = qa.ingest(document).adapter
        progress("internalize", n, len(dataset.documents))
    trials = []
    for n, case in enumerate(chosen, 1):
        for hits, answerable in _asked(qa, case):
            trial = _trial(qa, case, hits, records, answerable)
            if trial:
                trials.append(trial)
        progress("weigh", n, len(chosen))
    return trials


def _asked(qa: HybridQA, case: Case) -> list[tuple[list[Hit], bool]]:
    """Return the passages found for a question, then some that do not hold its answer."""
    count = qa.config.answer.passages
    found = qa.retriever.search(case.question, 4 * count)
    others = not_answering(case, found)
    asked = [(list(found[:count]), True)]
    return [*asked, (others[:count], False)] if len(others) >= count else asked


def _trial(
    qa: HybridQA,
    case: Case,
    hits: Sequence[Hit],
    records: Mapping[str, AdapterRecord | None],
    answerable: bool,
) -> tuple[Trial, Trial] | None:
    """Return what is weighed by the locator, and what of it is left to be judged."""
    assert qa.locator is not None
    prompts = Prompts(qa.adapters, qa.task_adapters, qa.reader, qa.config.answer.max_tokens)
    texts = [hit.chunk.text for hit in hits]
    looks = qa.locator.locate([Look(case.question, text, PLACES) for text in texts])
    found = [
        Found(n, place, texts[n][place.start : place.end])
        for n, places in enumerate(looks)
        for place in places
    ]
    if not found:
        return None
    judging = each_worn([records[hit.chunk.document_id] for hit in hits], hits)
    first, last = prompts.read(case.question, texts, Style.QUOTE, judging=judging).rounds
    left = passed_on(first, found)
    reading, *others = last.judges
    features = _of_places(left) | {
        "reader": _said(qa, reading, left),
        "adapter": [0.0] * (len(left) + 1),
        "bare": [0.0] * (len(left) + 1),
    }
    for judge in others:
        name = "adapter" if judge.prompt.adapters else "bare"
        said = _said(qa, judge, left)
        features[name] = [a + b for a, b in zip(features[name], said, strict=True)]

    def trial(places: Sequence[Found], features: Mapping[str, Sequence[float]]) -> Trial:
        f1 = [max(token_f1(each.text, gold) for gold in case.answers) for each in places]
        return Trial(features=features, f1=f1, answerable=answerable)

    return trial(found, _of_places(found)), trial(left, features)


def _of_places(found: Sequence[Found]) -> dict[str, list[float]]:
    return {
        "odds": [*(each.place.log_odds for each in found), 0.0],
        "none": [0.0] * len(found) + [1.0],
    }


def _said(qa: HybridQA, judge: Judge, found: Sequence[Found]) -> list[float]:
    texts = texts_for(judge, found)
    judgement = (
        qa.generator.judge([prompt_for(judge, found)], [texts])[0] if texts else Judgement((), 0)
    )
    return said_of(judge, found, judgement)


def _fitted(ways: Ways, trials: Sequence[Trial], absent: float) -> Fitted:
    names = _FEATURES[ways]
    tables = [
        torch.tensor([list(trial.features[name]) for name in names], dtype=torch.float64).T
        for trial in trials
    ]
    lessons = [
        (table, torch.tensor(right), 1.0 if trial.answerable else absent)
        for table, trial in zip(tables, trials, strict=True)
        if (right := trial.right())
    ]
    weights = _likeliest(lessons, len(names))
    chosen = [int((table @ weights).argmax()) for table in tables]
    outcomes = [
        (trial.f1[n] if n < len(trial.f1) else 0.0, n == len(trial.f1), trial.answerable)
        for n, trial in zip(chosen, trials, strict=True)
    ]
    return Fitted(
        ways=ways,
        weights=dict(zip(names, weights.tolist(), strict=True)),
        f1=fmean(f1 for f1, _, answerable in outcomes if answerable),
        abstained=fmean(none for _, none, answerable in outcomes if answerable),
        abstained_rightly=fmean(none for _, none, answerable in outcomes if not answerable),
    )


def _likeliest(lessons: Sequence[tuple[Tensor, Tensor, float]], size: int) -> Tensor:
    """Return the weights under which the right choices are likeliest, slightly shrunk."""
    total = sum(weight for _, _, weight in lessons)

    def loss(weights: Tensor) -> Tensor:
        missed = weights.new_zeros(())
        for table, right, weight in lessons:
            logits = table @ weights
            missed = missed + weight * (logits.logsumexp(0) - logits[right].logsumexp(0))
        return missed / total + _SHRINKAGE * weights.square().sum()

    return minimized(loss, size)
