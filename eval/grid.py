"""A table of figures, for the terminal and for a README."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from hybridqa.eval.statistics import Interval


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Cells by row and column, in plain text."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    """Each as long as `columns`."""
    caption: str = ""

    def drawn(self) -> RenderableType:
        """Return it for the terminal; title and caption may be wider than the table."""
        table = Table(*map(escape, self.columns))
        for column in table.columns[1:]:  # figures
            column.justify = "right"
        for row in self.rows:
            table.add_row(*map(escape, row))
        caption = [Text(self.caption, "dim")] if self.caption else []
        return Group(Text(self.title, "bold"), table, *caption)

    def markdown(self) -> str:
        """Return it as a Markdown table with a line above and one below."""
        lines = [
            f"{self.title}:",
            "",
            "| " + " | ".join(self.columns) + " |",
            "|---|" + "--:|" * (len(self.columns) - 1),
            *("| " + " | ".join(map(_cell, row)) + " |" for row in self.rows),
        ]
        return "\n".join([*lines, "", self.caption] if self.caption else lines) + "\n"


def percent(share: Interval | None) -> str:
    """Return a share with its interval, in percent; a hyphen where there is none."""
    if share is None:
        return "-"
    # En dashes: nothing that rich takes for markup, or that Markdown takes for a link.
    return f"{share.mean:.0%} ({100 * share.low:.0f}–{100 * share.high:.0f})"


def number(value: Interval | None, digits: int = 3) -> str:
    """Return an estimate with its interval; a hyphen where there is none."""
    if value is None:
        return "-"
    return f"{value.mean:.{digits}f} ({value.low:.{digits}f}–{value.high:.{digits}f})"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "/")
