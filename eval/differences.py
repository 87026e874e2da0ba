"""Which arm is better, and how sure that is: paired differences of scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from hybridqa.eval.arms import ArmName, comparisons, styled, under_policy
from hybridqa.eval.statistics import Bootstrap, Floats, holm, sign_test
from hybridqa.types import Style

MARGIN = 0.1
"""Graded scores that are nearer to each other are a tie."""

_EQUAL = 1e-9  # 0.8 - 0.7 is above 0.1 in floating point, and is to be a tie
_CONTROL = ArmName.WRONG_ADAPTER


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Scores of the arm `one` minus those of `other`, of the questions scored under both."""

    metric: str
    one: str
    other: str
    mean: float
    low: float
    high: float
    wins: int
    """Questions in which `one` is better by more than `margin`."""
    ties: int
    losses: int
    margin: float
    test: Literal["mcnemar", "sign"]
    """Of wins against losses, exact."""
    p: float
    p_adjusted: float
    """Corrected for the number of pairs of this metric, after Holm."""


def pairs(arms: Sequence[str], style: Style) -> list[tuple[str, str]]:
    """Return the pairs of styled arms worth a difference; arms that we do not know have none.

    Args:
        arms: Styled names, as in a run's manifest.
        style: The policy's, in which `auto` stands beside every arm but the control.
    """
    known = {str(arm): arm for arm in styled(tuple(ArmName))}
    found = comparisons([known[name] for name in arms if name in known])
    named = [(str(one), str(other)) for one, other in found]
    fixed = [arm for arm in ArmName if arm not in (ArmName.AUTO, _CONTROL)]
    routed = [(str(ArmName.AUTO), str(under_policy(arm, style))) for arm in fixed]
    return list(dict.fromkeys(named + [pair for pair in routed if set(pair) <= set(arms)]))


def differences(
    metric: str,
    table: Floats,
    arms: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    drawn: Bootstrap,
    binary: bool = False,
) -> list[Difference]:
    """Compare arms by one metric.

    Args:
        metric: Its name.
        table: Its scores, of shape (questions, arms); NaN where there is none.
        arms: Names of the columns.
        pairs: Each arm, and what it is measured against; those without a question that is scored
            under both are left out.
        drawn: Of the documents of these questions.
        binary: Scores are 0 or 1: any difference counts.
    """
    if not pairs:
        return []
    column = {arm: n for n, arm in enumerate(arms)}
    values = np.column_stack([table[:, column[a]] - table[:, column[b]] for a, b in pairs])
    margin = 0.0 if binary else MARGIN
    found = []
    for (one, other), each, interval in zip(pairs, values.T, drawn.intervals(values), strict=True):
        if interval is None:
            continue
        wins, losses = int(np.sum(each > margin + _EQUAL)), int(np.sum(each < -margin - _EQUAL))
        p = sign_test(wins, losses)
        found.append(
            Difference(
                metric=metric,
                one=one,
                other=other,
                **interval.as_dict(),
                wins=wins,
                ties=int(np.isfinite(each).sum()) - wins - losses,
                losses=losses,
                margin=margin,
                test="mcnemar" if binary else "sign",
                p=p,
                p_adjusted=p,
            )
        )
    adjusted = holm([each.p for each in found])
    return [replace(each, p_adjusted=p) for each, p in zip(found, adjusted, strict=True)]
