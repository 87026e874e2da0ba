"""What a gate found, and how it is shown."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from hybridqa.eval.statistics import Interval


@dataclass(frozen=True)
class Limit:
    """Something that is to hold."""

    text: str
    failure: str | None
    """Why it does not hold; `None` where it does."""


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """One check with its figures."""

    what: str
    n: int
    """Questions that count in both runs."""
    baseline: float | None
    """Mean score, or median time; `None` where n is 0."""
    candidate: float | None
    unit: str
    """Empty for scores."""
    change: Interval | None
    """Candidate - baseline; `None` where n is 0 and for times."""
    limits: tuple[Limit, ...]

    @property
    def passed(self) -> bool:
        return not self.failures

    @property
    def failures(self) -> list[str]:
        return [limit.failure for limit in self.limits if limit.failure is not None]


@dataclass(frozen=True, kw_only=True)
class GateReport:
    """What a gate says of a candidate."""

    name: str
    baseline: str
    """The run's folder."""
    candidate: str
    n: int
    checks: tuple[CheckResult, ...]
    notes: tuple[str, ...]
    """What else differs between the runs, in sentences."""

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        checks = [{"passed": check.passed, **asdict(check)} for check in self.checks]
        return {"passed": self.passed, **asdict(self), "checks": checks}

    def markdown(self) -> str:
        """Return the verdict, a table of the checks, and what else differs."""
        verdict = "passed" if self.passed else "failed"
        lines = [
            f"**Gate `{self.name}` {verdict}**: `{self.candidate}` against `{self.baseline}`, "
            f"{self.n} questions.",
            "",
            "| check | n | baseline | candidate | change (95 %) | limit | result |",
            "|---|--:|--:|--:|--:|---|---|",
            *map(_row, self.checks),
            *(f"\n{note}" for note in self.notes),
        ]
        return "\n".join(lines) + "\n"


def _row(check: CheckResult) -> str:
    change = check.change
    cells = (
        check.what,
        str(check.n),
        _figure(check.baseline, check.unit),
        _figure(check.candidate, check.unit),
        f"{change.mean:+.3f} ({change.low:+.3f} to {change.high:+.3f})" if change else "–",
        "; ".join(limit.text for limit in check.limits),
        "passed" if check.passed else f"**failed**: {'; '.join(check.failures)}",
    )
    return f"| {' | '.join(cells)} |"


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f} {unit}" if unit else f"{value:.3f}"
