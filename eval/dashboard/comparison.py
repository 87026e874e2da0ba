"""Two runs of the same questions: what changed, for every arm and metric of both."""

from __future__ import annotations

from typing import Any

import numpy as np

from hybridqa.errors import InputError
from hybridqa.eval.rows import Run
from hybridqa.eval.statistics import Bootstrap
from hybridqa.eval.summary import clusters, scores


def require_same_questions(run: Run, before: Run) -> None:
    """Check that the questions of both runs are the same, in any order.

    Raises:
        InputError: They are not; tells how many are.
    """
    asked, known = run.asked, before.asked
    if asked != known:
        raise InputError(
            f"The runs `{run.path}` and `{before.path}` cannot be compared: they asked "
            f"{len(asked)} and {len(known)} questions, of which {len(asked & known)} are the same "
            "(id, wording and gold answers). Run both on the same data, with the same `--limit` "
            "and `--seed`."
        )


def changes(run: Run, before: Run) -> dict[str, dict[str, Any]]:
    """Return by metric and arm the means before and after, and the paired difference.

    What has no question that is scored in both is left out.
    """
    drawn = Bootstrap.draw(clusters(run.questions), run.manifest.seed)
    row_of = {question.id: n for n, question in enumerate(before.questions)}
    rows = [row_of[question.id] for question in run.questions]
    arms = [arm for arm in run.manifest.arms if arm in before.manifest.arms]
    news, olds = ([one.manifest.arms.index(arm) for arm in arms] for one in (run, before))
    found: dict[str, dict[str, Any]] = {}
    for metric in run.manifest.metrics:
        if not arms or metric not in before.manifest.metrics:
            continue
        new, old = scores(run, metric)[:, news], scores(before, metric)[rows][:, olds]
        found[metric] = {}
        for n, (arm, interval) in enumerate(zip(arms, drawn.intervals(new - old), strict=True)):
            if interval is None:
                continue
            both = np.isfinite(new[:, n] - old[:, n])
            found[metric][arm] = interval.as_dict() | {
                "n": int(both.sum()),
                "before": float(old[both, n].mean()),
                "after": float(new[both, n].mean()),
                "improved": int((new[both, n] > old[both, n]).sum()),
                "regressed": int((new[both, n] < old[both, n]).sum()),
            }
    return found
