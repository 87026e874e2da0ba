"""`hybridqa eval unanswerable`: is nothing said where what is read does not answer?

Each question is asked twice under `retrieval`: with the passages that the index finds, and with the
most similar passages of other documents that do not hold its answer. An answer to the latter is
invented. What of both the engine gives, after its checks, is told beside what the model says; and
by what weights, fitted to these questions, the locator's log odds would tell one from the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from hybridqa.config import Config
from hybridqa.engines.choose import Chooser
from hybridqa.engines.cite import cite_answer
from hybridqa.engines.follow import attempted, checked
from hybridqa.engines.prompts import ANSWER_BIAS, ANSWER_WEIGHT, Prompts
from hybridqa.engines.read import Reading, Readings
from hybridqa.engines.stopwatch import Stopwatch
from hybridqa.errors import InputError
from hybridqa.eval.bench import Progress, scratch, silent
from hybridqa.eval.cases import Case, Dataset, choose
from hybridqa.eval.grid import Grid, number, percent
from hybridqa.eval.machine import machine
from hybridqa.eval.metrics.text import token_f1
from hybridqa.eval.probes.fitting import minimized
from hybridqa.eval.probes.lab import Lab, Refusal, at_least, one_of
from hybridqa.eval.probes.others import not_answering, without_measured
from hybridqa.eval.statistics import Interval, mean_interval
from hybridqa.protocols import Generation
from hybridqa.routing.policy import Policy
from hybridqa.types import Arm, Hit, Style
from hybridqa.wiring import HybridQA

_SEARCHED = 3
"""Times as many passages are searched as may be read, for some that do not answer."""
_SHRINKAGE = 1e-5


@dataclass(frozen=True, kw_only=True)
class UnanswerablePlan:
    """What is asked."""

    limit: int = 70
    """Most questions of each dataset."""
    without: int = 0
    """Questions that are kept for measuring: those that `eval run --limit` chooses."""
    styles: Sequence[str] = tuple(Style)
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise `InputError` where something cannot be measured."""
        at_least("limit of questions", self.limit, 1)
        at_least("number of questions to leave out", self.without, 0)
        at_least("number of styles", len(self.styles), 1)
        at_least("seed", self.seed, 0)
        for style in self.styles:
            one_of(Style, style, "style")


@dataclass(frozen=True, kw_only=True)
class Said:
    """A question in one style, with passages that answer it or with others."""

    data: str
    question: str
    document: str
    """One that answers it, with which it is drawn."""
    style: Style
    found: bool
    """Whether it was asked with what the index finds."""
    held: bool
    """Whether something of a document that answers it was read."""
    answer: str
    """Empty where nothing was said."""
    f1: float
    given: bool
    """Whether the engine gives that answer."""
    relevance: float | None
    """As in `Attempt`."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """All questions of a dataset in one style; intervals over documents."""

    data: str
    style: Style
    questions: int
    f1: Interval
    """Of what the model says, with what the index finds."""
    f1_given: Interval
    """Of what is given of it."""
    nothing: Interval
    """Share of these questions of which nothing is said."""
    invented: Interval | None
    """Share that is answered with passages that do not answer; `None` where there are none."""
    invented_given: Interval | None
    """Share of which the answer is given then."""


@dataclass(frozen=True, kw_only=True)
class UnanswerableReport:
    """What was said, and what is needed to ask it again."""

    plan: UnanswerablePlan
    silent_from: float
    outcomes: Sequence[Outcome]
    weights: dict[str, float] | None
    """Of the log odds and a bias, fitted to all questions; `None` without answers in free wording,
    or without both kinds."""
    rows: Sequence[Said]
    about: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return what `hybridqa eval unanswerable --json` prints."""
        return {
            "plan": asdict(self.plan),
            "silent_from": self.silent_from,
            "outcomes": [asdict(outcome) for outcome in self.outcomes],
            "weights": self.weights,
            "rows": [asdict(row) for row in self.rows],
            **self.about,
        }


def run_unanswerable(
    config: Config,
    datasets: Sequence[Dataset],
    plan: UnanswerablePlan = UnanswerablePlan(),
    progress: Progress = silent,
    open_home: Callable[[Path, Config], HybridQA] = HybridQA,
) -> UnanswerableReport:
    """Ask all questions, in homes that are removed afterwards; no adapter is made.

    Args:
        config: Of the models, and of the policy.
        datasets: Each with questions that name the documents that answer them.
        plan: What is asked.
        progress: Told of every step.
        open_home: Opens a home directory; tests put fakes into it.

    Raises:
        InputError: A dataset has no such question.
    """
    rows: list[Said] = []
    for dataset in datasets:
        with scratch(config, open_home) as qa:
            rows += _asked(qa, dataset, plan, progress)
            policy = qa.policy
            about = {
                "model": {"name": qa.base.name, "fingerprint": qa.base.fingerprint},
                "locator": qa.locator.fingerprint if qa.locator else None,
                "machine": machine(str(qa.base.device)),
            }
    groups = dict.fromkeys((row.data, row.style) for row in rows)
    return UnanswerableReport(
        plan=plan,
        silent_from=policy.thresholds.silent_from,
        outcomes=[
            _outcome([row for row in rows if (row.data, row.style) == key], plan.seed)
            for key in groups
        ],
        weights=_fitted(rows),
        rows=rows,
        about=about,
    )


def grid(report: UnanswerableReport) -> Grid:
    """Return a table of all datasets and styles."""
    fitted = "none"
    if report.weights:
        fitted = ", ".join(f"{name} {value:.2f}" for name, value in report.weights.items())
    return Grid(
        title="Asked with what the index finds, and with passages that do not answer",
        columns=(
            "data, style",
            "questions",
            "F1",
            "F1 of what is given",
            "nothing said",
            "others' passages: answered",
            "given",
        ),
        rows=[
            (
                f"{each.data}, {each.style}",
                str(each.questions),
                number(each.f1),
                number(each.f1_given),
                percent(each.nothing),
                percent(each.invented),
                percent(each.invented_given),
            )
            for each in report.outcomes
        ],
        caption=(
            f"Nothing is said from a likelihood of {report.silent_from:g} on that nothing answers "
            f"(`silent_from`). Given: what remains after the policy's checks. Seed "
            f"{report.plan.seed}, {report.plan.without} questions left out, intervals over "
            f"documents; {report.about['model']['name']}. Weights in use: odds {ANSWER_WEIGHT}, "
            f"bias {ANSWER_BIAS}; fitted to these questions, both kinds alike: {fitted}."
        ),
    )


def _asked(
    qa: HybridQA, dataset: Dataset, plan: UnanswerablePlan, progress: Progress
) -> list[Said]:
    left = without_measured(dataset, plan.without, plan.seed)
    cases = [case for case in left.cases if case.documents]
    if not cases:
        raise InputError(
            f"The dataset `{dataset.name}` has no question left that names a document which "
            "answers it. Use data with more questions, or leave out fewer."
        )
    asked = choose(replace(left, cases=tuple(cases)), plan.limit, plan.seed).cases
    for n, document in enumerate(dataset.documents, 1):
        qa.ingest(document, "none")
        progress("index", n, len(dataset.documents))
    passages = [(case, found, hits) for case in asked for found, hits in _passages(qa, case)]
    rows: list[Said] = []
    for n, style in enumerate(map(Style, plan.styles)):
        progress(f"{dataset.name}, by style", n, len(plan.styles))
        read = [_reading(qa, case, hits, style) for case, _, hits in passages]
        made = Lab(qa).ask([reading.prompt for reading in read])
        rows += [
            _said(dataset.name, case, style, found, reading, each, qa.policy)
            for (case, found, _), reading, each in zip(passages, read, made, strict=True)
            if not isinstance(each, Refusal)
        ]
    progress(f"{dataset.name}, by style", len(plan.styles), len(plan.styles))
    return rows


def _passages(qa: HybridQA, case: Case) -> list[tuple[bool, Sequence[Hit]]]:
    """Return what the index finds, and what of others' passages there is that does not answer."""
    count = qa.config.answer.hits
    found = qa.retriever.search(case.question, _SEARCHED * count)
    others = not_answering(case, found)[:count]
    return [(True, found[:count]), *([(False, others)] if others else [])]


def _reading(qa: HybridQA, case: Case, hits: Sequence[Hit], style: Style) -> Reading:
    answer = qa.config.answer
    prompts = Prompts(qa.adapters, qa.task_adapters, qa.reader, answer.max_tokens)
    chooser = Chooser(qa.locator, prompts.kept, answer.passages)
    readings = Readings(prompts, chooser, answer.passages)
    thresholds = qa.policy.thresholds
    return readings.make(case.question, hits, {}, style, thresholds, None, Stopwatch())


def _said(
    data: str,
    case: Case,
    style: Style,
    found: bool,
    reading: Reading,
    made: Generation,
    policy: Policy,
) -> Said:
    citation = cite_answer(made, [hit.chunk for hit in reading.hits], reading.hits)
    attempt = checked(attempted(Arm.RETRIEVAL, made, citation, 0.0), policy)
    answer = "" if attempt.abstained else attempt.text
    return Said(
        data=data,
        question=case.id,
        document=case.documents[0],
        style=style,
        found=found,
        held=any(hit.chunk.document_id in case.documents for hit in reading.hits),
        answer=answer,
        f1=max(token_f1(answer, gold) for gold in case.answers) if answer else 0.0,
        given=attempt.accepted,
        relevance=made.relevance,
    )


def _outcome(rows: Sequence[Said], seed: int) -> Outcome:
    own = [row for row in rows if row.found]
    others = [row for row in rows if not row.found]

    def mean(of: Sequence[Said], value: Callable[[Said], float]) -> Interval:
        return mean_interval([value(row) for row in of], [row.document for row in of], seed)

    return Outcome(
        data=rows[0].data,
        style=rows[0].style,
        questions=len(own),
        f1=mean(own, lambda row: row.f1),
        f1_given=mean(own, lambda row: row.f1 if row.given else 0.0),
        nothing=mean(own, lambda row: float(not row.answer)),
        invented=mean(others, lambda row: float(bool(row.answer))) if others else None,
        invented_given=mean(others, lambda row: float(row.given)) if others else None,
    )


def _fitted(rows: Sequence[Said]) -> dict[str, float] | None:
    """Return the weights under which it is likeliest what answers, slightly shrunk."""
    told = [
        (row.relevance, row.found, row.held)
        for row in rows
        if row.style is Style.FREE and row.relevance is not None and 0 < row.relevance < 1
    ]
    # What was found but does not answer, either, teaches nothing.
    lessons = [(relevance, found) for relevance, found, held in told if held or not found]
    kinds = [found for _, found in lessons]
    if len(set(kinds)) < 2:
        return None
    odds = [
        (math.log(relevance / (1 - relevance)) - ANSWER_BIAS) / ANSWER_WEIGHT
        for relevance, _ in lessons
    ]
    table = torch.tensor([[each, 1.0] for each in odds], dtype=torch.float64)
    answers = torch.tensor([float(found) for found in kinds], dtype=torch.float64)
    shares = torch.tensor([1 / kinds.count(found) for found in kinds], dtype=torch.float64)

    def loss(weights: torch.Tensor) -> torch.Tensor:
        missed = torch.nn.functional.binary_cross_entropy_with_logits(
            table @ weights, answers, shares, reduction="sum"
        )
        return missed / 2 + _SHRINKAGE * weights[0].square()

    return dict(zip(("odds", "bias"), minimized(loss, 2).tolist(), strict=True))
