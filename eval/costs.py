"""What an answer costs under each arm, and after how many questions an adapter has paid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Literal

import numpy as np

from hybridqa.eval.arms import TRAINED, ArmName, StyledArm, styled
from hybridqa.eval.rows import AnswerRow, Run
from hybridqa.eval.statistics import Floats

ASSUMPTIONS = (
    "Times are of the questions that were asked one by one under every arm that has any; what was "
    "generated in batches has no time of its own.",
    "The key-value cache is counted at the end of an answer, all its tokens in the base model's "
    "cache. For `auto` it is an upper bound: the sum of all its calls of the model.",
    "Break-even: the documents are asked about evenly, and never change; each change of a document "
    "costs its adapter once more.",
    "Break-even by time: the mean time to make a document's adapter, over the median time that a "
    "question saves, of the questions timed under both arms. Indexing is not counted, because "
    "every arm that has to find its document needs it.",
    "Break-even by prompt tokens: the hypernetwork reads each token of a document once. "
    "Distillation and refinement also generate and train, so tokens do not measure them.",
)

_TOTAL, _FIRST = "total", "first_token"
_MADE_BY = {ArmName.ADAPTER: "associative", **TRAINED}
_READING = (ArmName.CONTEXT, ArmName.RETRIEVAL)


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Of times in milliseconds."""

    median: float
    p95: float


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one answer; means leave out questions that could not be asked, `None` where all."""

    timed: int
    """Answers whose times count."""
    total_ms: Spread | None
    first_token_ms: Spread | None
    """From the question on."""
    stages_ms: Mapping[str, float]
    """Median by stage, of the answers that have it."""
    prompt_tokens: float | None
    completion_tokens: float | None
    adapter_bytes: float | None
    kv_bytes: float | None
    """Of keys and values in the model's cache at the end."""


@dataclass(frozen=True, kw_only=True)
class BreakEven:
    """From how many questions about a document on its adapter pays."""

    adapter_arm: str
    other_arm: str
    by: Literal["time", "prompt tokens"]
    cost_once: float
    """To internalize one document, mean: seconds, or tokens."""
    saved_per_question: float
    """Likewise; negative where the adapter's answers cost more."""
    questions: float | None
    """`None`: never."""


def costs(run: Run) -> dict[str, Cost]:
    """Return what an answer costs by arm; times are of questions that were timed under all."""
    shared = _shared(timed_seconds(run))
    token_bytes = run.manifest.kv_bytes_per_token
    return {
        arm: _cost(list(rows.values()), [rows[each] for each in shared & rows.keys()], token_bytes)
        for arm, rows in _answered(run).items()
    }


def timed_seconds(run: Run) -> dict[str, dict[str, float]]:
    """Return the times of the answers that have one of their own, by arm and question."""
    return {
        arm: {name: row.timings_ms[_TOTAL] / 1000 for name, row in rows.items() if _timed(row)}
        for arm, rows in _answered(run).items()
    }


def seconds(run: Run) -> Floats:
    """Return the time of each answer, of shape (questions, arms).

    Its own on questions that were timed under every arm that has any; elsewhere its arm's mean over
    these, NaN where there are none.
    """
    timed = timed_seconds(run)
    shared = _shared(timed)
    columns = []
    for times in timed.values():
        own = {name: spent for name, spent in times.items() if name in shared}
        usual = fmean(own.values()) if own else float("nan")
        columns.append([own.get(question.id, usual) for question in run.questions])
    return np.array(columns).T


def break_even(run: Run) -> tuple[BreakEven, ...]:
    """Compare arms that wear a document's adapter with those that read passages instead.

    Both are of one style. Comparisons without figures are left out: arms that were not timed, runs
    without such adapters.
    """
    answers = _answered(run)
    found = []
    for one in styled(tuple(_MADE_BY)):
        for other in styled(_READING):
            if one.style is other.style and {str(one), str(other)} <= answers.keys():
                wearing, reading = answers[str(one)], answers[str(other)]
                both = [(row, reading[name]) for name, row in wearing.items() if name in reading]
                found += [_by_time(run, one, other, both), _by_tokens(run, one, other, both)]
    return tuple(each for each in found if each is not None)


def _answered(run: Run) -> dict[str, dict[str, AnswerRow]]:
    """Return the answers of questions that could be asked, by arm and question."""
    found: dict[str, dict[str, AnswerRow]] = {arm: {} for arm in run.manifest.arms}
    for row in run.answers:
        if row.error is None:
            found[row.arm][row.question] = row
    return found


def _timed(row: AnswerRow) -> bool:
    return _TOTAL in row.timings_ms


def _shared(timed: Mapping[str, Mapping[str, float]]) -> set[str]:
    """Return the questions that have times under every arm that has any."""
    named = [set(times) for times in timed.values() if times]
    return set.intersection(*named) if named else set()


def _cost(rows: Sequence[AnswerRow], timed: Sequence[AnswerRow], token_bytes: int) -> Cost:
    timings = [row.timings_ms for row in timed if _timed(row)]
    stages = dict.fromkeys(stage for each in timings for stage in each)
    tokens = _mean([row.prompt_tokens + row.completion_tokens for row in rows])
    return Cost(
        timed=len(timings),
        total_ms=_spread([each[_TOTAL] for each in timings]),
        first_token_ms=_spread([each[_FIRST] for each in timings if _FIRST in each]),
        stages_ms={
            stage: median(each[stage] for each in timings if stage in each)
            for stage in stages
            if stage not in (_TOTAL, _FIRST)
        },
        prompt_tokens=_mean([row.prompt_tokens for row in rows]),
        completion_tokens=_mean([row.completion_tokens for row in rows]),
        adapter_bytes=_mean([row.adapter_bytes for row in rows]),
        kv_bytes=None if tokens is None else tokens * token_bytes,
    )


def _spread(times: Sequence[float]) -> Spread | None:
    if not times:
        return None
    return Spread(median=median(times), p95=float(np.quantile(times, 0.95)))


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _by_time(
    run: Run, one: StyledArm, other: StyledArm, both: Sequence[tuple[AnswerRow, AnswerRow]]
) -> BreakEven | None:
    made = [row.seconds for row in run.manifest.adapters if row.internalizer == _MADE_BY[one.arm]]
    saved = [
        (reading.timings_ms[_TOTAL] - wearing.timings_ms[_TOTAL]) / 1000
        for wearing, reading in both
        if _timed(wearing) and _timed(reading)
    ]
    if not made or not saved:
        return None
    return _break_even(one, other, "time", fmean(made), median(saved))


def _by_tokens(
    run: Run, one: StyledArm, other: StyledArm, both: Sequence[tuple[AnswerRow, AnswerRow]]
) -> BreakEven | None:
    made_of = {row.document for row in run.manifest.adapters if row.internalizer == "associative"}
    read = [row.tokens for row in run.documents if row.id in made_of and row.tokens is not None]
    if one.arm is not ArmName.ADAPTER or not read or not both:
        return None
    saved = fmean(reading.prompt_tokens - wearing.prompt_tokens for wearing, reading in both)
    return _break_even(one, other, "prompt tokens", fmean(read), saved)


def _break_even(
    one: StyledArm,
    other: StyledArm,
    by: Literal["time", "prompt tokens"],
    once: float,
    saved: float,
) -> BreakEven:
    return BreakEven(
        adapter_arm=str(one),
        other_arm=str(other),
        by=by,
        cost_once=once,
        saved_per_question=saved,
        questions=once / saved if saved > 0 else None,
    )
