"""The results of a speed run: values, a table for the terminal, a table for a README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from rich.markup import escape
from rich.table import Table

Detail = str | int | float | bool | None
_PACKAGES = ("torch", "transformers", "peft", "fastapi", "uvicorn", "qdrant-edge-py")
"""Whose versions are told, where they played a part."""
_COLUMNS = ("row", "what", "measured", "target", "met")


@dataclass(frozen=True, kw_only=True)
class SpeedRow:
    """One figure with its target."""

    name: str
    description: str
    """In plain words."""
    measured: float
    """Median over the repeats."""
    low: float
    high: float
    """Least and greatest of the repeats."""
    unit: Literal["x", "s", "ms", "GB", "questions"]
    """`x`: a ratio of two times or sizes."""
    target: float
    at_least: bool
    """Whether more is better; else `target` is an upper limit."""
    details: Mapping[str, Detail] = field(default_factory=dict)

    @property
    def met(self) -> bool:
        """Whether the target is reached."""
        return self.measured >= self.target if self.at_least else self.measured <= self.target

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {**asdict(self), "details": dict(self.details), "met": self.met}


@dataclass(frozen=True, kw_only=True)
class SpeedReport:
    """All rows that were measured, and what is needed to measure them again."""

    rows: Sequence[SpeedRow]
    skipped: Mapping[str, str]
    """Why rows could not be measured, by name."""
    quick: bool
    """Small sizes and few repeats: shows that it runs, not how fast."""
    seed: int
    model: Mapping[str, str]
    machine: Mapping[str, str | int | None]
    seconds: float

    @property
    def met(self) -> bool:
        """Whether everything was measured and every target is reached."""
        return not self.skipped and all(row.met for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            **{key: value for key, value in vars(self).items() if key != "rows"},
            "rows": [row.as_dict() for row in self.rows],
            "met": self.met,
        }


def table(report: SpeedReport) -> Table:
    """Return a table for the terminal."""
    drawn = Table(*_COLUMNS, title=_title(report), caption=_caption(report))
    for row in report.rows:
        cells = [escape(cell) for cell in _cells(row)]
        drawn.add_row(*cells, style="" if row.met else "bold red")
    for name, reason in report.skipped.items():
        drawn.add_row(name, escape(reason), "-", "-", "-", style="bold red")
    return drawn


def markdown(report: SpeedReport) -> str:
    """Return the same as a Markdown table with a line above and one below."""
    rows = [
        "| " + " | ".join(_COLUMNS) + " |",
        "|---|---|--:|--:|---|",
        *("| `{}` | {} | {} | {} | {} |".format(*_cells(row)) for row in report.rows),
        *(
            f"| `{name}` | not measured: {' '.join(reason.split()).replace('|', '/')} | | | |"
            for name, reason in report.skipped.items()
        ),
    ]
    return "\n".join([f"{_title(report)}:", "", *rows, "", _caption(report)]) + "\n"


def _cells(row: SpeedRow) -> list[str]:
    measured = _quantity(row.measured, row.unit)
    if row.low != row.high:
        low, high = _quantity(row.low, row.unit), _quantity(row.high, row.unit)
        measured += f" ({low} to {high})"
    limit = f"{'≥' if row.at_least else '≤'} {_quantity(row.target, row.unit)}"
    return [row.name, row.description, measured, limit, "yes" if row.met else "NO"]


def _quantity(value: float, unit: str) -> str:
    digits = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{digits}×" if unit == "x" else f"{digits} {unit}"


def _title(report: SpeedReport) -> str:
    return "Speed, small sizes (do not publish)" if report.quick else "Speed and size"


def _caption(report: SpeedReport) -> str:
    at = report.machine
    packages = ", ".join(f"{package} {at[package]}" for package in _PACKAGES if package in at)
    told = (
        f"{report.model['name']} ({report.model['dtype']}) on {at['device']}, {at['platform']}, "
        f"Python {at['python']}, {packages}, seed {report.seed}"
    )
    if commit := at.get("commit"):
        told += f", commit {commit}"
    return f"{told}. Medians; in brackets the least and the greatest of the repeats."
