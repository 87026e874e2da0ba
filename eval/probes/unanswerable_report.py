"""What `hybridqa eval unanswerable` tells: what is said and given, by style, and fitted weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from hybridqa.engines.prompts import ANSWER_BIAS, ANSWER_WEIGHT
from hybridqa.errors import InputError
from hybridqa.eval.grid import Grid, number, percent
from hybridqa.eval.probes.fitting import logistic
from hybridqa.eval.probes.lab import at_least, one_of
from hybridqa.eval.statistics import Interval, mean_interval
from hybridqa.types import Style

_COLUMNS = ("F1", "F1 of what is given", "nothing said", "others' passages: answered", "given")
_THRESHOLDS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)


@dataclass(frozen=True, kw_only=True)
class UnanswerablePlan:
    """What is asked."""

    limit: int = 70
    """Most questions of each dataset."""
    without: int = 0
    """Questions that are kept for measuring: those that `eval run --limit` chooses."""
    styles: Sequence[str] = tuple(Style)
    absent: float = 1 / 6
    """Weight, where weights are fitted, of questions asked with passages that do not answer."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise `InputError` where something cannot be measured."""
        at_least("limit of questions", self.limit, 1)
        at_least("number of questions to leave out", self.without, 0)
        at_least("number of styles", len(self.styles), 1)
        at_least("seed", self.seed, 0)
        if not 0 < self.absent <= 1:
            raise InputError(f"The weight `absent` must be in (0, 1], got {self.absent:g}.")
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
    """Empty where nothing was said, or where the prompt was too long."""
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
    """Asked with what the index finds."""
    others: int
    """Asked with passages that do not answer."""
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
    outcomes: Sequence[Outcome]
    weights: dict[str, float] | None
    """Of the log odds and a bias, fitted to all questions in free wording; `None` without both
    kinds, or where no locator told how likely what was read answers."""
    rows: Sequence[Said]
    about: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return what `hybridqa eval unanswerable --json` prints."""
        return {
            "plan": asdict(self.plan),
            "outcomes": [asdict(outcome) for outcome in self.outcomes],
            "weights": self.weights,
            "rows": [asdict(row) for row in self.rows],
            **self.about,
        }


def outcome(rows: Sequence[Said], seed: int) -> Outcome:
    own = [row for row in rows if row.found]
    others = [row for row in rows if not row.found]

    def mean(of: Sequence[Said], value: Callable[[Said], float]) -> Interval:
        return mean_interval([value(row) for row in of], [row.document for row in of], seed)

    return Outcome(
        data=rows[0].data,
        style=rows[0].style,
        questions=len(own),
        others=len(others),
        f1=mean(own, lambda row: row.f1),
        f1_given=mean(own, lambda row: row.f1 if row.given else 0.0),
        nothing=mean(own, lambda row: float(not row.answer)),
        invented=mean(others, lambda row: float(bool(row.answer))) if others else None,
        invented_given=mean(others, lambda row: float(row.given)) if others else None,
    )


def stricter(rows: Sequence[Said], silent_from: float) -> list[Said]:
    """Return what would be said, and given, in free wording at a lower `silent_from`."""
    return [
        row
        if row.relevance is None or row.relevance >= 1 - silent_from
        else replace(row, answer="", f1=0.0, given=False)
        for row in rows
        if row.style is Style.FREE
    ]


def fitted(rows: Sequence[Said], absent: float) -> dict[str, float] | None:
    """Return the weights under which it is likeliest what answers, slightly shrunk.

    Args:
        rows: Of all datasets.
        absent: Weight of all passages that do not answer, beside 1 of all that do.
    """
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
    weighs = {True: 1 / kinds.count(True), False: absent / kinds.count(False)}
    shares = torch.tensor([weighs[found] for found in kinds], dtype=torch.float64)
    weights = logistic(table, answers, shares)
    return dict(zip(("odds", "bias"), weights.tolist(), strict=True))


def grids(report: UnanswerableReport) -> list[Grid]:
    """Return a table of all datasets and styles, and one of free wording at lower thresholds."""
    at, anew = report.about["machine"], "none"
    if report.weights:
        anew = ", ".join(f"{name} {value:.2f}" for name, value in report.weights.items())
    asked = Grid(
        title="Asked with what the index finds, and with passages that do not answer",
        columns=("data, style", "questions", *_COLUMNS),
        rows=[
            (f"{each.data}, {each.style}", f"{each.questions} + {each.others}", *_figures(each))
            for each in report.outcomes
        ],
        caption=(
            f"`silent_from` is {report.about['silent_from']:g}. Given: what remains after the "
            f"policy's checks. Seed {report.plan.seed}, without {report.plan.without} questions; "
            f"{report.about['model']['name']} on {at['device']}, commit {at.get('commit')}. In "
            "brackets, 95 % intervals over documents. Weights in use: odds "
            f"{ANSWER_WEIGHT}, bias {ANSWER_BIAS}; fitted to these questions: {anew}."
        ),
    )
    lower = [each for each in _THRESHOLDS if each < report.about["silent_from"]]
    looser = dict.fromkeys(row.data for row in report.rows if row.style is Style.FREE)
    if not lower or not looser or report.weights is None:
        return [asked]
    return [
        asked,
        Grid(
            title="The same in free wording, had `silent_from` been lower",
            columns=("data, silent_from", *_COLUMNS),
            rows=[
                (f"{data}, {threshold:g}", *_figures(outcome(said, report.plan.seed)))
                for data in looser
                for threshold in lower
                if (said := stricter([r for r in report.rows if r.data == data], threshold))
            ],
        ),
    ]


def _figures(outcome: Outcome) -> tuple[str, ...]:
    return (
        number(outcome.f1),
        number(outcome.f1_given),
        percent(outcome.nothing),
        percent(outcome.invented),
        percent(outcome.invented_given),
    )
