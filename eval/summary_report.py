"""Show a summary: tables for the terminal, Markdown for a README."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from hybridqa.errors import InputError
from hybridqa.eval.differences import Difference
from hybridqa.eval.regret import ArmInterval
from hybridqa.eval.statistics import LEVEL, Interval
from hybridqa.eval.summary import Cell, MetricNote, Summary

# So that the terminal's tables fit into 80 columns: metrics in one table, and where cells break.
_ABREAST = 4
_BREAKS = re.compile(r" (?=\(|[+−] |instead |judge )")

SECTIONS = ("matrix", "differences", "regret", "costs", "break-even", "assumptions")


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """A table before it is drawn; without columns, its notes alone."""

    title: str
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    marked: Collection[int] = ()
    """Rows to make bold."""
    notes: Sequence[str] = ()


def tables(summary: Summary) -> list[Table]:
    """Return all sections for the terminal; only the primary metric, the first, has intervals."""
    notes = sorted(summary.metrics, key=lambda note: note.name != summary.primary)
    blocks = [notes[n : n + _ABREAST] for n in range(0, len(notes), _ABREAST)]
    matrices = [_matrix(summary, block, {summary.primary}) for block in blocks]
    _, *others = _grids(summary, (), ())
    return [_drawn(grid) for grid in [*matrices, *others] if _filled(grid)]


def markdown(
    summary: Summary, sections: Sequence[str] = SECTIONS, metrics: Sequence[str] | None = None
) -> str:
    """Return sections as Markdown.

    Args:
        summary: To show.
        sections: Some of `SECTIONS`, in any order; those without figures are left out.
        metrics: Columns of the matrix; `None` shows all.

    Raises:
        InputError: There is no such section, or the run does not have the metric.
    """
    names = [note.name for note in summary.metrics]
    for what, wanted, there in (("section", sections, SECTIONS), ("metric", metrics or (), names)):
        for name in wanted:
            if name not in there:
                raise InputError(f"There is no {what} `{name}`. Choose from {', '.join(there)}.")
    shown = [note for note in summary.metrics if metrics is None or note.name in metrics]
    grids = dict(zip(SECTIONS, _grids(summary, shown, names), strict=True))
    return "\n".join(_written(grids[name]) for name in sections if _filled(grids[name]))


def _grids(summary: Summary, shown: Sequence[MetricNote], bounded: Collection[str]) -> list[_Grid]:
    """Return every section in the order of `SECTIONS`; metrics in `bounded` have intervals."""
    return [
        _matrix(summary, shown, bounded),
        _differences(summary),
        _regret(summary),
        _costs(summary),
        _break_even(summary),
        _Grid(title="How to read this", notes=summary.assumptions),
    ]


def _matrix(summary: Summary, shown: Sequence[MetricNote], bounded: Collection[str]) -> _Grid:
    judged = any(note.judge for note in shown)
    return _Grid(
        title=f"{summary.n} questions on {summary.documents} documents: mean scores, with 95 % "
        "intervals over documents",
        columns=[
            "arm",
            *(note.label + "†" * note.judge for note in shown),
            "abstained",
        ],
        rows=[
            [
                arm,
                *(_cell(cells[note.name], note.name in bounded) for note in shown),
                _abstained(summary.abstained[arm], summary.errors[arm]),
            ]
            for arm, cells in summary.matrix.items()
        ],
        notes=[f"† {summary.judge}"] if judged and summary.judge else [],
    )


def _differences(summary: Summary) -> _Grid:
    shown = [each for each in summary.differences if each.metric == summary.primary]
    margin = f"; by up to {shown[0].margin:g} is equal" if shown and shown[0].margin else ""
    return _Grid(
        title=f"Paired differences in {_label(summary)}{margin}",
        columns=["arms", "difference (95 %)", "better", "equal", "worse", "p, corrected"],
        rows=[
            [
                f"{each.one} − {each.other}",
                f"{each.mean:+.3f} ({each.low:+.3f} to {each.high:+.3f})",
                str(each.wins),
                str(each.ties),
                str(each.losses),
                f"{each.p_adjusted:.3f}" if each.p_adjusted >= 0.001 else "below 0.001",
            ]
            for each in shown
        ],
        marked=[n for n, each in enumerate(shown) if _certain(each)],
    )


def _regret(summary: Summary) -> _Grid:
    return _Grid(
        title="What the router is worth",
        columns=["by", "best single arm", "router", "oracle", "gap closed"],
        rows=[
            [
                each.name,
                f"{each.best_single.arm} {_interval(each.best_single)}",
                _interval(each.router),
                _interval(each.oracle),
                _percent(each.closed) if each.closed else "no gap",
            ]
            for each in summary.regret
        ],
    )


def _costs(summary: Summary) -> _Grid:
    timed = max(cost.timed for cost in summary.costs.values())
    return _Grid(
        title=f"What an answer costs, times of {timed} questions",
        columns=[
            "arm",
            "median ms",
            "p95 ms",
            "first token ms",
            "tokens in",
            "tokens out",
            "adapter MB",
            "cache MB",
        ],
        rows=[
            [
                arm,
                _number(cost.total_ms.median if cost.total_ms else None),
                _number(cost.total_ms.p95 if cost.total_ms else None),
                _number(cost.first_token_ms.median if cost.first_token_ms else None),
                _number(cost.prompt_tokens),
                _number(cost.completion_tokens),
                _number(cost.adapter_bytes and cost.adapter_bytes / 1e6, digits=2),
                _number(cost.kv_bytes and cost.kv_bytes / 1e6, digits=2),
            ]
            for arm, cost in summary.costs.items()
        ],
    )


def _break_even(summary: Summary) -> _Grid:
    rows = []
    for each in summary.break_even:
        unit, digits = (" s", 3) if each.by == "time" else ("", 1)
        rows.append(
            [
                f"{each.adapter_arm} instead of {each.other_arm}",
                each.by,
                _number(each.cost_once, unit, digits),
                _number(each.saved_per_question, unit, digits),
                "never" if each.questions is None else f"{each.questions:,.1f}",
            ]
        )
    return _Grid(
        title="From how many questions about a document its adapter pays",
        columns=["arms", "by", "cost once", "saved each time", "questions"],
        rows=rows,
    )


def _label(summary: Summary) -> str:
    return next(note.label for note in summary.metrics if note.name == summary.primary)


def _certain(difference: Difference) -> bool:
    """Return whether interval and test agree that there is a difference."""
    outside = difference.low > 0 or difference.high < 0
    return outside and difference.p_adjusted < 1 - LEVEL


def _cell(cell: Cell | None, bounds: bool) -> str:
    if cell is None:
        return "–"
    failed = f", judge failed on {cell.failed}" if cell.failed else ""
    if cell.mean is None:
        return f"–{failed}"
    shown = f"{cell.mean:.3f}"
    return f"{shown} ({cell.low:.3f}–{cell.high:.3f}){failed}" if bounds else f"{shown}{failed}"


def _abstained(abstained: int, errors: int) -> str:
    return f"{abstained} + {errors} failed" if errors else str(abstained)


def _interval(interval: Interval | ArmInterval) -> str:
    # En dashes: nothing that rich takes for markup, or that Markdown takes for a link.
    return f"{interval.mean:.3f} ({interval.low:.3f}–{interval.high:.3f})"


def _percent(share: Interval) -> str:
    return f"{100 * share.mean:.0f} % ({100 * share.low:.0f} to {100 * share.high:.0f})"


def _number(value: float | None, unit: str = "", digits: int = 0) -> str:
    return "–" if value is None else f"{value:,.{digits}f}{unit}"


def _drawn(grid: _Grid) -> Table:
    drawn = Table(
        title=Text(grid.title),
        title_justify="left",
        show_header=bool(grid.columns),
        box=SIMPLE,
        padding=(0, 1, 0, 0),
    )
    for n, column in enumerate(grid.columns):
        header = Text(column.replace(" ", "\n"))
        drawn.add_column(header, justify="right" if n else "left", overflow="fold")
    for n, row in enumerate(grid.rows):
        cells = [Text(_BREAKS.sub("\n", cell)) for cell in row]
        drawn.add_row(*cells, style="bold" if n in grid.marked else "")
    if grid.columns:
        drawn.caption = Text("\n".join(grid.notes)) if grid.notes else None
    else:
        for note in grid.notes:
            drawn.add_row(Text(note))
    return drawn


def _filled(grid: _Grid) -> bool:
    return bool(grid.rows or (grid.notes and not grid.columns))


def _written(grid: _Grid) -> str:
    lines = [f"{grid.title}:", ""]
    if grid.columns:
        lines += [
            "| " + " | ".join(grid.columns) + " |",
            "|---|" + "--:|" * (len(grid.columns) - 1),
        ]
        for n, row in enumerate(grid.rows):
            cells = [f"**{cell}**" if n in grid.marked else cell for cell in row]
            lines.append("| " + " | ".join(cells) + " |")
        lines += ["", *grid.notes]
    else:
        lines += [f"- {note}" for note in grid.notes]
    return "\n".join(lines).rstrip() + "\n"
