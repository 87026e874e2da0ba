"""Whether a change may go in: a run after it against a run before it, on the same questions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import field, replace
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from hybridqa.config import STRICT, load_yaml
from hybridqa.errors import ConfigError, InputError
from hybridqa.eval.costs import timed_seconds
from hybridqa.eval.gate_report import CheckResult, GateReport, Limit
from hybridqa.eval.metrics.catalog import METRICS
from hybridqa.eval.rows import Run
from hybridqa.eval.runs import read_run
from hybridqa.eval.statistics import Bootstrap, Interval
from hybridqa.eval.summary import clusters, scores

_Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Check:
    """What one metric of one arm must fulfil; at least one limit."""

    metric: str
    arm: str
    """Styled: `adapter`, `adapter+quote`, ..., `auto`."""
    margin: Annotated[float, Field(gt=0, le=1)] | None = None
    """Non-inferior: the lower end of the paired 95 % interval of candidate - baseline lies above
    -margin."""
    min_mean: _Share | None = None
    """Of the candidate."""
    max_mean: _Share | None = None
    """Likewise; for a control such as `wrong-adapter`."""
    max_failed: _Share | None = None
    """Share of the candidate's answers that the judge may fail on, of those it was to score."""

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ConfigError(
                f"There is no metric `{self.metric}`. Choose from {', '.join(METRICS)}."
            )
        limits = (self.margin, self.min_mean, self.max_mean, self.max_failed)
        if all(limit is None for limit in limits):
            raise ConfigError(
                f"The check of `{self.metric}` of `{self.arm}` has no limit. Give it `margin`, "
                "`min_mean`, `max_mean` or `max_failed`."
            )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Latency:
    """How much slower an arm may become."""

    arm: str
    max_ratio: Annotated[float, Field(gt=0)]
    """Of the median time of an answer, candidate / baseline, on questions timed in both."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GateConfig:
    """What a candidate must fulfil. Read from `configs/gates/*.yaml`."""

    name: str
    description: str
    min_questions: Annotated[int, Field(ge=2)]
    """A check of scores fails where fewer questions are scored in both runs."""
    min_timed: Annotated[int, Field(ge=1)] = 10
    """Likewise a check of times."""
    checks: Annotated[tuple[Check, ...], Field(min_length=1)]
    latency: tuple[Latency, ...] = field(default=())


def run_gate(config: Path, baseline: Path, candidate: Path) -> GateReport:
    """Read a gate and two runs, and judge; see `gate`."""
    return gate(load_yaml(GateConfig, config), read_run(baseline), read_run(candidate))


def gate(config: GateConfig, baseline: Run, candidate: Run) -> GateReport:
    """Judge a candidate.

    Raises:
        InputError: The runs are of different questions, or lack what a check is about.
    """
    _require_same_questions(baseline, candidate)
    candidate = replace(candidate, questions=baseline.questions)  # in one order
    drawn = Bootstrap.draw(clusters(baseline.questions), baseline.manifest.seed)
    results = []
    for check in config.checks:
        _require(check, baseline, candidate)
        results.append(_scored(check, baseline, candidate, drawn, config.min_questions))
    for latency in config.latency:
        _require(latency, baseline, candidate)
        results.append(_timed(latency, baseline, candidate, config.min_timed))
    return GateReport(
        name=config.name,
        baseline=baseline.path,
        candidate=candidate.path,
        n=len(baseline.questions),
        checks=tuple(results),
        notes=tuple(_notes(baseline, candidate)),
    )


def _require_same_questions(baseline: Run, candidate: Run) -> None:
    ours, theirs = baseline.asked, candidate.asked
    if ours != theirs:
        raise InputError(
            f"The runs are of different questions: `{baseline.path}` has {len(ours)} and "
            f"`{candidate.path}` {len(theirs)}; {len(ours & theirs)} of them are in both, with "
            "equal id, text and gold answers. Run both with the same `--data`, `--limit` and "
            "`--seed`."
        )


def _require(check: Check | Latency, baseline: Run, candidate: Run) -> None:
    for run in (baseline, candidate):
        manifest = run.manifest
        wanted = [("arm", check.arm, manifest.arms)]
        if isinstance(check, Check):
            wanted.append(("metric", check.metric, manifest.metrics))
        for kind, name, there in wanted:
            if name not in there:
                raise InputError(
                    f"The gate checks the {kind} `{name}`, which the run `{run.path}` does not "
                    f"have. It has {', '.join(there)}. Run it again with `{name}`, or take the "
                    "check out of the gate."
                )
    judges = [(run.manifest.judge or {}).get("name") for run in (baseline, candidate)]
    if isinstance(check, Check) and METRICS[check.metric].judge and judges[0] != judges[1]:
        raise InputError(
            f"The gate checks `{check.metric}`, which `{judges[0]}` judged in `{baseline.path}` "
            f"and `{judges[1]}` in `{candidate.path}`. Let one judge score both runs, or take the "
            "check out of the gate."
        )


def _scored(
    check: Check, baseline: Run, candidate: Run, drawn: Bootstrap, min_questions: int
) -> CheckResult:
    before, after = (
        scores(run, check.metric)[:, run.manifest.arms.index(check.arm)]
        for run in (baseline, candidate)
    )
    change = drawn.intervals((after - before)[:, None])[0]
    both = np.isfinite(after - before)
    n = int(both.sum())
    mean = float(after[both].mean()) if n else None
    return CheckResult(
        what=f"`{check.metric}` of `{check.arm}`",
        n=n,
        baseline=float(before[both].mean()) if n else None,
        candidate=mean,
        unit="",
        change=change,
        limits=(
            *_limits(check, change, mean, _failed(check, candidate)),
            _enough(n, min_questions, "scored"),
        ),
    )


def _timed(check: Latency, baseline: Run, candidate: Run, min_timed: int) -> CheckResult:
    before, after = (timed_seconds(run)[check.arm] for run in (baseline, candidate))
    both = before.keys() & after.keys()
    was = 1000 * median(before[each] for each in both) if both else None
    now = 1000 * median(after[each] for each in both) if both else None
    slower = was is not None and now is not None and now > check.max_ratio * was
    return CheckResult(
        what=f"median time of `{check.arm}`",
        n=len(both),
        baseline=was,
        candidate=now,
        unit="ms",
        change=None,
        limits=(
            Limit(f"at most {check.max_ratio:g} times", "more than that" if slower else None),
            _enough(len(both), min_timed, "timed"),
        ),
    )


def _failed(check: Check, run: Run) -> float:
    """Return the share of an arm's answers that the judge failed on, of those it was to score."""
    rows = [row for row in run.scores if row.arm == check.arm]
    failed = sum(check.metric in row.failures for row in rows)
    scored = sum(row.scores.get(check.metric) is not None for row in rows)
    return failed / max(failed + scored, 1)


def _limits(
    check: Check, change: Interval | None, mean: float | None, failed: float
) -> Iterator[Limit]:
    if check.margin is not None:
        low = -math.inf if change is None else change.low
        lost = None if low > -check.margin else f"may have lost {-low:.3f}"
        yield Limit(f"loses less than {check.margin:g}", lost)
    if check.min_mean is not None:
        reached = mean is not None and mean >= check.min_mean
        yield Limit(f"at least {check.min_mean:g}", None if reached else "less than that")
    if check.max_mean is not None:
        kept = mean is not None and mean <= check.max_mean
        yield Limit(f"at most {check.max_mean:g}", None if kept else "more than that")
    if check.max_failed is not None:
        often = f"failed on {failed:.1%}" if failed > check.max_failed else None
        yield Limit(f"the judge fails on at most {check.max_failed:.1%}", often)


def _enough(n: int, least: int, what: str) -> Limit:
    return Limit(f"n at least {least}", None if n >= least else f"only {n} {what} in both runs")


def _notes(baseline: Run, candidate: Run) -> Iterator[str]:
    before, after = baseline.manifest, candidate.manifest
    if before.data_sha256 != after.data_sha256:
        yield "The questions are the same, but not the data: documents or gold documents differ."
    if before.evidence != after.evidence:
        yield "Judges held answers against different evidence: see `evidence` in the manifests."
    for what in ("policy", "config", "model", "versions", "seed"):
        if getattr(before, what) != getattr(after, what):
            yield f"The runs differ in `{what}`: see their manifests."
    if before.machine.get("device") != after.machine.get("device"):
        yield (
            f"The runs are of different machines (`{before.machine.get('device')}`, "
            f"`{after.machine.get('device')}`): their times are not comparable."
        )
