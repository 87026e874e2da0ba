"""Everything that a run says, in figures: what the dashboard, the reports and the README show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hybridqa.errors import InputError
from hybridqa.eval import costs, regret
from hybridqa.eval.calibration import Calibration, calibrate
from hybridqa.eval.costs import BreakEven, Cost
from hybridqa.eval.differences import Difference, differences, pairs
from hybridqa.eval.metrics.catalog import METRICS
from hybridqa.eval.regret import Regret, regrets
from hybridqa.eval.rows import QuestionRow, Run
from hybridqa.eval.slices import Slice, slices
from hybridqa.eval.statistics import Bootstrap, Floats
from hybridqa.types import Style

_CORRECT = "correct"
_STATISTICS = (
    "Intervals are 95 % bootstrap intervals that draw documents, not questions, since questions "
    "about one document are not independent. Where only one document has scores, its questions "
    "are drawn.",
    "The tests of wins against losses count questions as independent. Where documents have many "
    "questions each, go by the intervals.",
)


@dataclass(frozen=True, kw_only=True)
class MetricNote:
    """What a column means."""

    name: str
    label: str
    description: str
    judge: bool
    """Judged by a language model."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Mean score of one arm by one metric; `None` where the judge failed on every question."""

    mean: float | None
    low: float | None
    high: float | None
    n: int
    """Questions that were scored."""
    failed: int
    """Questions that the judge failed on; in no mean."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All figures of a run."""

    n: int
    documents: int
    arms: tuple[str, ...]
    primary: str
    """The metric of slices and regret."""
    metrics: tuple[MetricNote, ...]
    matrix: Mapping[str, Mapping[str, Cell | None]]
    """By arm and metric; `None` where the metric applies to no question."""
    abstained: Mapping[str, int]
    errors: Mapping[str, int]
    """Questions that could not be asked; they count as wrong."""
    routes: Mapping[str, Mapping[str, int]]
    differences: tuple[Difference, ...]
    slices: Mapping[str, Mapping[str, Slice]]
    calibration: Mapping[str, Calibration]
    """By arm; empty without the metric `correct`."""
    regret: tuple[Regret, ...]
    costs: Mapping[str, Cost]
    break_even: tuple[BreakEven, ...]
    assumptions: tuple[str, ...]
    """Behind the figures, in sentences."""
    judge: str | None
    """Who judged by which evidence, in sentences; `None` without a judge."""

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return asdict(self)


def summarize(run: Run, seed: int | None = None) -> Summary:
    """Return all figures of a run.

    Args:
        run: Complete.
        seed: Of the bootstrap; `None` takes the run's own.

    Raises:
        InputError: The run has a metric that is not known.
    """
    manifest = run.manifest
    arms, style = manifest.arms, Style(manifest.policy.get("style", Style.QUOTE))
    notes = tuple(map(_note, manifest.metrics))
    tables = {metric: scores(run, metric) for metric in manifest.metrics}
    drawn = Bootstrap.draw(clusters(run.questions), manifest.seed if seed is None else seed)
    primary = "f1" if "f1" in tables else manifest.metrics[0]
    compared = pairs(arms, style)
    found = regrets(primary, tables[primary], costs.seconds(run), arms, style, run.questions, drawn)
    return Summary(
        n=len(run.questions),
        documents=len(run.documents),
        arms=arms,
        primary=primary,
        metrics=notes,
        matrix=_matrix(run, tables, drawn),
        abstained={
            arm: sum(row.abstained for row in run.answers if row.arm == arm) for arm in arms
        },
        errors={
            arm: sum(row.error is not None for row in run.answers if row.arm == arm) for arm in arms
        },
        routes=_routes(run),
        differences=tuple(
            difference
            for metric, table in tables.items()
            for difference in differences(
                metric, table, arms, compared, drawn, binary=METRICS[metric].binary
            )
        ),
        slices=slices(run, tables[primary], drawn),
        calibration=_calibration(run, tables[_CORRECT]) if _CORRECT in tables else {},
        regret=found,
        costs=costs.costs(run),
        break_even=costs.break_even(run),
        assumptions=_assumptions(run, found),
        judge=_judge(run),
    )


def scores(run: Run, metric: str) -> Floats:
    """Return a metric, of shape (questions, arms); NaN where there is no score."""
    return np.array(list(run.table(metric).values()), np.float64).T


def clusters(questions: tuple[QuestionRow, ...]) -> list[str]:
    """Return what each question is drawn with: the (first) document it is about, or by itself."""
    return [next(iter(row.documents or row.about), f"no document: {row.id}") for row in questions]


def _note(metric: str) -> MetricNote:
    if metric not in METRICS:
        raise InputError(
            f"The run has the metric `{metric}`, which this hybridqa does not know: it is of a "
            f"newer version. Update hybridqa; known are {', '.join(METRICS)}."
        )
    known = METRICS[metric]
    return MetricNote(
        name=metric, label=known.label, description=known.description, judge=known.judge
    )


def _matrix(
    run: Run, tables: Mapping[str, Floats], drawn: Bootstrap
) -> dict[str, dict[str, Cell | None]]:
    failed = Counter((row.arm, metric) for row in run.scores for metric in row.failures)
    matrix: dict[str, dict[str, Cell | None]] = {arm: {} for arm in run.manifest.arms}
    for metric, table in tables.items():
        counts = np.isfinite(table).sum(0).tolist()
        for arm, n, interval in zip(matrix, counts, drawn.intervals(table), strict=True):
            failures = failed[arm, metric]
            bounds = interval.as_dict() if interval else dict.fromkeys(("mean", "low", "high"))
            cell = Cell(**bounds, n=n, failed=failures)
            matrix[arm][metric] = cell if n or failures else None
    return matrix


def _routes(run: Run) -> dict[str, dict[str, int]]:
    counts = Counter((row.arm, row.route) for row in run.answers if not row.error)
    routes: dict[str, dict[str, int]] = {arm: {} for arm in run.manifest.arms}
    for (arm, route), count in counts.most_common():
        routes[arm][route] = count
    return routes


def _calibration(run: Run, correct: Floats) -> dict[str, Calibration]:
    arms = run.manifest.arms
    confidence = np.full(correct.shape, np.nan)
    rows = {question.id: n for n, question in enumerate(run.questions)}
    columns = {arm: n for n, arm in enumerate(arms)}
    for row in run.answers:
        if row.answer:
            confidence[rows[row.question], columns[row.arm]] = row.confidence
    answered = np.isfinite(confidence) & np.isfinite(correct)
    return {
        arm: calibrate(confidence[chosen, n], correct[chosen, n])
        for n, (arm, chosen) in enumerate(zip(arms, answered.T, strict=True))
    }


def _assumptions(run: Run, found: tuple[Regret, ...]) -> tuple[str, ...]:
    priced = [
        f"Quality at a cost: each second of an answer costs {each.price_per_second:.3g} of "
        f"`{each.metric}`, so that a retrieval answer of mean time costs "
        f"{regret.RETRIEVAL_PRICE}. Questions timed under every arm that has times cost what they "
        "took; all others cost each arm, `auto` too, its mean over these."
        for each in found
        if each.price_per_second
    ]
    return (*_STATISTICS, *(regret.ASSUMPTIONS if found else ()), *priced, *costs.ASSUMPTIONS)


def _judge(run: Run) -> str | None:
    judge = run.manifest.judge
    if judge is None:
        return None
    told = f"Judged by `{judge.get('name')}`, every arm against the same evidence: "
    told += run.manifest.evidence.rstrip(".") + "."
    agreed = [
        f"{100 * each['agreement']:.0f} % ({METRICS[metric].label}, n = {each['n']})"
        for metric, each in (judge.get("consistency") or {}).items()
        if metric in METRICS and each["n"]
    ]
    if agreed:
        told += f" Judging again, it agreed with itself within 0.1 on {', '.join(agreed)}."
    if judge.get("plumbing"):
        told += (
            " This model is too small to judge: its scores show that the plumbing works, no more."
        )
    return told
