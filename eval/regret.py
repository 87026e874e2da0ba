"""What the router is worth: between the best arm for all questions, and the best for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hybridqa.eval.arms import ArmName, under_policy
from hybridqa.eval.rows import QuestionRow
from hybridqa.eval.statistics import Bootstrap, Floats, Interval
from hybridqa.types import Style

CHOOSABLE = (ArmName.BASE, ArmName.ADAPTER, ArmName.RETRIEVAL, ArmName.BOTH)
"""Arms that a policy may take."""

RETRIEVAL_PRICE = 0.1
"""What a retrieval answer of mean time costs, in units of the metric."""

ASSUMPTIONS = (
    "The arm `adapter` is told the gold document, which the router must find: where the index does "
    "not find it first, what the adapter says is worth 0 here, before its price.",
    "The oracle takes the best answer to each question with hindsight, the router's among them. "
    "Some are best by luck alone, so the gap to it is overstated, and the share that the router "
    "closes understated.",
    "The best single arm is the one with the highest mean on these same questions: a slight "
    "advantage over the router, whose rules were written before.",
)


@dataclass(frozen=True, kw_only=True)
class ArmInterval:
    """The mean of one arm."""

    arm: str
    mean: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Regret:
    """By one idea of what an answer is worth: its score, less a price for its time."""

    name: str
    metric: str
    price_per_second: float
    arms: Mapping[str, float]
    """Mean worth of the arms that the router chooses from."""
    best_single: ArmInterval
    router: ArmInterval
    oracle: Interval
    closed: Interval | None
    """Share of the way from the best single arm to the oracle that the router goes, at most 1;
    negative where it is worse than that arm; `None` where the oracle is no better."""


def regrets(
    metric: str,
    table: Floats,
    seconds: Floats,
    arms: Sequence[str],
    style: Style,
    questions: Sequence[QuestionRow],
    drawn: Bootstrap,
) -> tuple[Regret, ...]:
    """Judge the router by quality alone, and by quality at a cost where `retrieval` was timed.

    Args:
        metric: Its name.
        table: Its scores, of shape (questions, arms); questions that an arm concerned has no score
            of are left out.
        seconds: Time of each answer, likewise; NaN where it is not known.
        arms: Names of the columns.
        style: The policy's.
        questions: The rows.
        drawn: Of the documents of these questions.

    Returns:
        None where `auto` or a choice of arms is missing.
    """
    named = [str(under_policy(arm, style)) for arm in CHOOSABLE]
    choices = [name for name in named if name in arms]
    if ArmName.AUTO not in arms or len(choices) < 2:
        return ()
    columns = [arms.index(name) for name in (*choices, ArmName.AUTO)]
    scores, times = table[:, columns], seconds[:, columns]
    adapter = str(under_policy(ArmName.ADAPTER, style))
    if adapter in choices:
        scores[_missed(questions), choices.index(adapter)] *= 0.0  # what has no score stays so
    found = [_regret("quality", metric, 0.0, choices, scores, drawn)]
    retrieval = str(under_policy(ArmName.RETRIEVAL, style))
    usual = times[:, choices.index(retrieval)].mean() if retrieval in choices else 0
    if usual > 0 and np.isfinite(times).all():
        price = RETRIEVAL_PRICE / float(usual)
        worth = scores - price * times
        found.append(_regret("quality at a cost", metric, price, choices, worth, drawn))
    return tuple(each for each in found if each is not None)


def _missed(questions: Sequence[QuestionRow]) -> NDArray[np.bool_]:
    """Return where gold documents are known, and the best hit, if any, is in none of them."""
    return np.array(
        [
            bool(row.documents)
            and all(hit.document not in row.documents for hit in row.retrieved[:1])
            for row in questions
        ]
    )


def _regret(
    name: str, metric: str, price: float, choices: list[str], worth: Floats, drawn: Bootstrap
) -> Regret | None:
    """Judge by `worth` of shape (questions, choices and the router)."""
    known = np.flatnonzero(np.isfinite(worth).all(1))
    if not len(known):
        return None
    worth, drawn = worth[known], drawn.among(known.tolist())
    means = worth[:, :-1].mean(0)
    best = int(means.argmax())
    values = np.column_stack([worth[:, best], worth[:, -1], worth.max(1)])
    single, router, oracle = (each for each in drawn.intervals(values) if each is not None)
    gains = values[:, 1:] - values[:, :1]
    return Regret(
        name=name,
        metric=metric,
        price_per_second=price,
        arms=dict(zip(choices, means.tolist(), strict=True)),
        best_single=ArmInterval(arm=choices[best], **single.as_dict()),
        router=ArmInterval(arm=ArmName.AUTO, **router.as_dict()),
        oracle=oracle,
        closed=drawn.interval(lambda means: means[:, 0] / means[:, 1], gains),
    )
