"""How a run went, as a picture: marks while training, and held-out sets with their controls."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hybridqa.errors import InputError

_MARKS = {"first": "first token right", "whole": "whole answer right", "place": "key found"}
_ARMS = {
    "right": "right adapter",
    "context": "passage in the prompt",
    "wrong": "wrong adapter",
    "none": "no adapter",
    "alone": "its passage",
    "among": "with others beside",
    "absent": "others only: does not say",
}
_SMOOTHED = 25
"""Steps, of which the mean is drawn."""
_SIZE = (4.6, 3.4)
"""Inches, of a panel."""
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#999999")
"""Okabe and Ito's, which the colour-blind can tell apart."""


def draw_curves(log: Path, picture: Path) -> None:
    """Write a PNG of a run's log: batches on the left, then the loss on each held-out set.

    Args:
        log: JSON Lines, as a run writes them; lines of steps that were taken twice, because a run
            was cut short, count once.
        picture: Replaced.

    Raises:
        InputError: Matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise InputError(
            "Curves need Matplotlib. Install it: `pip install 'hybridqa[train]'`."
        ) from exc

    trained, evaluated = _read(log)
    names = sorted(evaluated[-1]["sets"]) if evaluated else []
    figure = Figure((_SIZE[0] * (len(names) + 1), _SIZE[1]), layout="constrained")
    panels: Sequence[Any] = figure.subplots(1, len(names) + 1, squeeze=False)[0]
    for (key, label), colour in zip(_MARKS.items(), _COLOURS, strict=False):
        values = _smoothed([row.get(key, 0.0) for row in trained])
        if any(values):  # a reader finds no places, and older logs tell none
            panels[0].plot([row["step"] for row in trained], values, color=colour, label=label)
    panels[0].set_title(f"Batches, before learning (mean of {_SMOOTHED})")
    panels[0].set_ylim(0, 1)
    for panel, name in zip(panels[1:], names, strict=True):
        arms = [arm for arm in _ARMS if any(arm in row["sets"].get(name, {}) for row in evaluated)]
        for arm, colour in zip(arms, _COLOURS, strict=False):
            label, rows = _ARMS[arm], [row for row in evaluated if arm in row["sets"].get(name, {})]
            losses = [row["sets"][name][arm]["loss"] for row in rows]
            panel.plot([row["step"] for row in rows], losses, "o-", color=colour, label=label)
        panel.set_title(f"{name}: loss of the answers")
    for panel in panels:
        panel.set_xlabel("steps")
        panel.grid(alpha=0.3)
        if panel.lines:
            panel.legend(fontsize="small")
    figure.savefig(picture, dpi=100)


def _read(log: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the last line of each step: of training, and of evaluation."""
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    kinds = ("train", "evaluation")
    latest = {kind: {row["step"]: row for row in rows if row["kind"] == kind} for kind in kinds}
    trained, evaluated = (sorted(latest[kind].values(), key=_step) for kind in kinds)
    return trained, evaluated


def _step(row: dict[str, Any]) -> int:
    return int(row["step"])


def _smoothed(values: Sequence[float]) -> list[float]:
    means = []
    for n in range(1, len(values) + 1):
        part = values[max(0, n - _SMOOTHED) : n]
        means.append(sum(part) / len(part))
    return means
