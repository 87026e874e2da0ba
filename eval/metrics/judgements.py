"""What is made of a judge's rows: scores, and how far the judge agrees with itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from hybridqa.eval.metrics.judging import INAPPLICABLE
from hybridqa.eval.rows import JudgementRow, ScoreRow

_AGREES_WITHIN = 0.1


def merge(scores: Sequence[ScoreRow], judgements: Sequence[JudgementRow]) -> list[ScoreRow]:
    """Put a judge's verdicts into scores.

    A failed verdict becomes `None` and its reason goes into `failures`; where a metric does not
    apply it is `None` alone. Of two rows about the same thing the later one counts.
    """
    by_answer: dict[tuple[str, str], list[JudgementRow]] = {}
    for row in judgements:
        if row.repeat == 0:
            by_answer.setdefault((row.question, row.arm), []).append(row)
    return [_merged(row, by_answer.get((row.question, row.arm), ())) for row in scores]


def consistency(judgements: Sequence[JudgementRow]) -> dict[str, Mapping[str, float]]:
    """Return by metric how alike first and repeated verdicts are.

    Returns:
        `n` pairs with two values, `agreement`: the share of them that differ by at most 0.1,
        `mean_difference`: of their absolute differences. Metrics without a pair are left out.
    """
    first = {(r.question, r.arm, r.metric): r.value for r in judgements if r.repeat == 0}
    differences: dict[str, list[float]] = {}
    for row in judgements:
        value = first.get((row.question, row.arm, row.metric))
        if row.repeat > 0 and row.value is not None and value is not None:
            differences.setdefault(row.metric, []).append(abs(row.value - value))
    return {
        metric: {
            "n": len(found),
            "agreement": fmean(d <= _AGREES_WITHIN + 1e-9 for d in found),
            "mean_difference": fmean(found),
        }
        for metric, found in differences.items()
    }


def _merged(row: ScoreRow, verdicts: Sequence[JudgementRow]) -> ScoreRow:
    latest = {verdict.metric: verdict for verdict in verdicts}
    failures = {
        metric: verdict.error or "the judge gave no score"
        for metric, verdict in latest.items()
        if verdict.value is None and not (verdict.error or "").startswith(INAPPLICABLE)
    }
    values = {metric: verdict.value for metric, verdict in latest.items()}
    return replace(row, scores={**row.scores, **values}, failures={**row.failures, **failures})
