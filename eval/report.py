"""Show a comparison of arms: a table for the terminal, a table for a README."""

from __future__ import annotations

from rich.table import Table

from hybridqa.eval.qa import ArmReport, QaReport
from hybridqa.eval.statistics import Interval

_COLUMNS = ("arm", "F1", "exact match", "ROUGE-L", "of context", "no answer")


def table(report: QaReport) -> Table:
    """Return a table for the terminal: means with 95 % intervals."""
    drawn = Table(*_COLUMNS, title=_title(report), caption=_caption(report))
    for column in drawn.columns[1:]:
        column.justify = "right"
    for name, arm in report.arms.items():
        drawn.add_row(name, *_cells(arm, report.run.manifest.questions))
    return drawn


def markdown(report: QaReport) -> str:
    """Return the same as a Markdown table with a line above and one below."""
    rows = [
        "| " + " | ".join(_COLUMNS) + " |",
        "|---|" + "--:|" * (len(_COLUMNS) - 1),
        *(
            f"| `{name}` | " + " | ".join(_cells(arm, report.run.manifest.questions)) + " |"
            for name, arm in report.arms.items()
        ),
    ]
    return "\n".join([f"{_title(report)}:", "", *rows, "", _caption(report)]) + "\n"


def differences(report: QaReport) -> Table:
    """Return a table of the paired differences in F1; bold where the interval excludes 0."""
    drawn = Table("F1", "difference", title="Paired differences")
    drawn.columns[1].justify = "right"
    for name, difference in report.differences.items():
        cell = f"{difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"
        certain = difference.low > 0 or difference.high < 0
        drawn.add_row(name, cell, style="bold" if certain else "")
    return drawn


def _cells(arm: ArmReport, n: int) -> list[str]:
    relative = arm.relative_to_context
    return [
        _interval(arm.f1),
        _interval(arm.exact_match),
        _interval(arm.rouge_l),
        _interval(relative) if relative else "-",
        f"{arm.abstained + arm.failed}/{n}",
    ]


def _interval(interval: Interval) -> str:
    # En dashes: nothing that rich takes for markup, or that Markdown takes for a link.
    return f"{interval.mean:.3f} ({interval.low:.3f}–{interval.high:.3f})"


def _title(report: QaReport) -> str:
    told = report.run.manifest
    return f"{told.data}, {told.questions} questions on {told.documents} passages, seed {told.seed}"


def _caption(report: QaReport) -> str:
    manifest = report.run.manifest
    told = f"{manifest.model['name']} on {manifest.machine['device']}"
    if commit := manifest.machine.get("commit"):
        told += f", commit {commit}"
    if report.skipped:
        told += f"; {report.skipped} questions without a gold answer left out"
    if manifest.warnings:
        told += f"; {len(manifest.warnings)} passages without an adapter"
    return f"{told}. In brackets, 95 % bootstrap intervals over passages."
