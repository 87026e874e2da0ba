"""Tables: what they say in the terminal and in Markdown."""

import io

from rich.console import Console

from hybridqa.eval.grid import Grid, number, percent
from hybridqa.eval.statistics import Interval

GRID = Grid(
    title="Shares",
    columns=("arm", "right"),
    rows=[("adapter [x]", "50% (9–91)"), ("a|b\nc", "-")],
    caption="Seed 0, and a caption that is a good deal longer than the table is wide.",
)


def test_markdown() -> None:
    assert GRID.markdown() == (
        "Shares:\n\n| arm | right |\n|---|--:|\n| adapter [x] | 50% (9–91) |\n| a/b c | - |\n\n"
        "Seed 0, and a caption that is a good deal longer than the table is wide.\n"
    )
    assert Grid(title="T", columns=("a",), rows=[]).markdown() == "T:\n\n| a |\n|---|\n"


def test_the_terminal() -> None:
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(GRID.drawn())
    lines = console.export_text().splitlines()

    assert any("adapter [x]" in line and "50% (9–91)" in line for line in lines)
    assert lines[-1].strip() == GRID.caption


def test_figures_have_their_intervals() -> None:
    assert percent(Interval(mean=0.5, low=0.0945, high=0.9055)) == "50% (9–91)"
    assert number(Interval(mean=1.5, low=1.0, high=2.25), 2) == "1.50 (1.00–2.25)"
    assert percent(None) == number(None) == "-"
