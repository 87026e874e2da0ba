"""Show what an adapter knows against the time spent on it: a table, a plot, the files of a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hybridqa.errors import InputError
from hybridqa.eval.arms import ArmName
from hybridqa.eval.effort import Effort, EffortReport
from hybridqa.eval.folder import write_files
from hybridqa.eval.grid import Grid, number
from hybridqa.eval.probes.lab import told

JSON, PICTURE = "effort.json", "effort.png"

_TITLE = "What an adapter knows, by the time spent on it"
_NAMES = {
    ArmName.ADAPTER: "hypernetwork",
    ArmName.REFINED: "refined from there",
    ArmName.DISTILLED: "distilled from zero",
}
_COLOURS = {ArmName.ADAPTER: "#d55e00", ArmName.REFINED: "#0072b2", ArmName.DISTILLED: "#009e73"}
"""Okabe and Ito's, which the colour-blind can tell apart."""
_DASHES = {"context": "--", "wrong-adapter": "-.", "base": ":"}


def grids(report: EffortReport) -> list[Grid]:
    """Return a table of all ways to make an adapter, then of the controls."""
    rows = [
        (
            _NAMES[effort.arm],
            str(effort.steps),
            f"{effort.seconds:.1f}",
            f"{effort.times:.0f}×",
            number(effort.f1),
            number(effort.quoting),
            number(effort.gained) if effort.steps else "-",
        )
        for effort in sorted(report.efforts, key=lambda effort: effort.seconds)
    ]
    rows += [
        (f"control: {name}", "-", "-", "-", number(f1), "-", "-")
        for name, f1 in report.controls.items()
    ]
    return [
        Grid(
            title=_TITLE,
            columns=(
                *("made by", "steps", "seconds a document", "of the hypernetwork's time"),
                *("F1, free", "F1, quoting", "gained, free"),
            ),
            rows=rows,
            caption=_caption(report),
        )
    ]


def picture(report: EffortReport) -> bytes:
    """Return the plot as a PNG.

    Raises:
        InputError: Matplotlib is not installed.
    """
    from io import BytesIO

    try:
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise InputError(
            "Plots need Matplotlib. Install it: `pip install 'hybridqa[eval]'`."
        ) from exc

    figure = Figure((7, 4.2), layout="constrained")
    panel: Any = figure.subplots()
    for arm, name in _NAMES.items():
        made = [effort for effort in report.efforts if effort.arm is arm]
        _draw(panel, made, name, _COLOURS[arm])
    for control, f1 in report.controls.items():
        panel.axhline(f1.mean, color="#777777", linestyle=_DASHES[control], label=control)
    panel.set_xscale("log")
    panel.set_xlabel("time to make a document's adapter, of the hypernetwork's")
    panel.set_ylabel("F1 of free answers, 95 % intervals")
    panel.set_ylim(bottom=0)
    panel.set_title(f"{_TITLE}\n{report.questions} questions, {report.documents} documents")
    panel.grid(alpha=0.3)
    panel.legend(fontsize="small")
    written = BytesIO()
    figure.savefig(written, format="png", dpi=100)
    return written.getvalue()


def write(report: EffortReport, out: Path) -> list[Path]:
    """Write a report and its plot into a folder; return the files."""
    told_of = json.dumps(report.as_dict(), indent=2) + "\n"
    return write_files({out / JSON: told_of.encode(), out / PICTURE: picture(report)})


def _draw(panel: Any, made: Sequence[Effort], name: str, colour: str) -> None:
    below = [effort.f1.mean - effort.f1.low for effort in made]
    above = [effort.f1.high - effort.f1.mean for effort in made]
    times, means = [effort.times for effort in made], [effort.f1.mean for effort in made]
    panel.errorbar(times, means, (below, above), fmt="o-", color=colour, label=name, capsize=3)
    for effort in made:
        if effort.steps:
            panel.annotate(
                f"{effort.steps} steps",
                (effort.times, effort.f1.mean),
                xytext=(4, 6),
                textcoords="offset points",
                fontsize="x-small",
                color=colour,
            )


def _caption(report: EffortReport) -> str:
    return (
        f"`{report.data}`: {report.questions} questions about {report.documents} documents, seed "
        f"{report.plan.seed}; {told(report.about)}. Steps of 8 questions that the model asks "
        "itself, for each part of an adapter where it is refined; the asking is in the time. In "
        "brackets, 95 % bootstrap intervals over documents; gained: paired, over the hypernetwork."
    )
