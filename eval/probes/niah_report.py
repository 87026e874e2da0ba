"""Show needles in haystacks: tables, a heat map, and the files of a run."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from hybridqa.eval.folder import write_files
from hybridqa.eval.grid import Grid
from hybridqa.eval.probes.heatmap import Panel, Square, heatmap
from hybridqa.eval.probes.lab import Refused, told
from hybridqa.eval.probes.niah import ARMS, Cell, NiahReport

JSON, ROWS, PICTURE = "niah.json", "trials.jsonl", "niah.png"

_TITLE = "Needle in a haystack"
_BRACKETS = "In brackets, Wilson's 95 % intervals."
_REFUSED = {
    Refused.TOO_LONG: "too long",
    Refused.WINDOW: "window",
    Refused.FAILED: "failed",
}


def grids(report: NiahReport) -> list[Grid]:
    """Return a table per arm; the last one's caption says what was measured."""
    lengths = [f"{tokens:,}" for tokens in report.plan.tokens]
    return [
        Grid(
            title=f"{_TITLE}, found under `{arm}`",
            columns=("depth", *lengths),
            rows=[
                (f"{depth:g}", *(_label(cell, with_interval=True) for cell in cells))
                for depth, cells in zip(report.plan.depths, rows, strict=True)
            ],
            caption=f"{_caption(report)} {_BRACKETS}" if arm == _arms(report)[-1] else "",
        )
        for arm, rows in _by_arm(report).items()
    ]


def picture(report: NiahReport) -> bytes:
    """Return a heat map per arm, as one PNG."""
    panels = [
        Panel(
            title=f"found under: {arm}",
            squares=[
                [Square(cell.share.mean if cell.share else None, _label(cell)) for cell in cells]
                for cells in rows
            ],
        )
        for arm, rows in _by_arm(report).items()
    ]
    return heatmap(
        title=_TITLE,
        panels=panels,
        rows=[f"{depth:g}" for depth in report.plan.depths],
        columns=[f"{tokens:,}" for tokens in report.plan.tokens],
        row_title="depth",
        column_title="tokens of text",
        caption=_caption(report).replace("`", ""),
    )


def write(report: NiahReport, out: Path) -> list[Path]:
    """Write figures, all trials, and the picture; return the files."""
    rows = (json.dumps(asdict(trial), ensure_ascii=False) for trial in report.trials)
    files = {
        out / JSON: (json.dumps(report.as_dict(), ensure_ascii=False, indent=1) + "\n").encode(),
        out / ROWS: ("\n".join(rows) + "\n").encode(),
        out / PICTURE: picture(report),
    }
    return write_files(files)


def _arms(report: NiahReport) -> list[str]:
    return list(_by_arm(report))


def _by_arm(report: NiahReport) -> dict[str, list[list[Cell]]]:
    """Return the cells of each arm by depth, then by length."""
    cells = {(cell.arm, cell.tokens, cell.depth): cell for cell in report.cells()}
    return {
        str(arm): [
            [cells[arm, tokens, depth] for tokens in report.plan.tokens]
            for depth in report.plan.depths
        ]
        for arm in ARMS
        if any(cell.arm == arm for cell in report.cells())
    }


def _label(cell: Cell, with_interval: bool = False) -> str:
    if cell.share is None:
        return _REFUSED[Refused(str(cell.refused))]
    label = f"{cell.share.mean:.0%}"
    if with_interval:
        label += f" ({100 * cell.share.low:.0f}–{100 * cell.share.high:.0f})"
    return f"{label} of {cell.asked}" if cell.refused else label


def _caption(report: NiahReport) -> str:
    plan, made = report.plan, {text.tokens: text for text in report.texts if text.made}
    notes = [
        f"Trials of each cell: {plan.trials}, seed {plan.seed}, adapters worn: {plan.wear}, "
        f"{'quoting' if plan.quote else 'wording their answers themselves'}, "
        f"filler: `{plan.filler}` ({report.distinct_tokens:,} tokens before any comes again); "
        f"{told(report.about)}."
    ]
    if any(cell.refused == Refused.TOO_LONG for cell in report.cells()):
        longest = f" (made up to {max(made):,})" if made else ""
        notes.append(f"`too long`: more than the internalizer takes{longest}.")
    if any(cell.refused == Refused.WINDOW for cell in report.cells()):
        notes.append("`window`: more than the model's context.")
    return " ".join(notes)
