"""Draw shares by row and column as a picture, one panel beside the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from hybridqa.errors import InputError

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

Colour = tuple[int, int, int]

_CELL, _LEFT, _TOP, _BOTTOM, _GAP, _LINE, _LEAST = (76, 44), 96, 64, 40, 24, 18, 560
_SMALL, _PLAIN, _LARGE = 13, 15, 19
_INK, _FAINT, _PAPER, _NONE = (30, 30, 30), (110, 110, 110), (255, 255, 255), (226, 226, 226)
# Viridis, also told apart by the colour-blind and in grey; from 0 to 1.
_SCALE: Sequence[Colour] = (
    *((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)),
)
_LIGHT = 140
"""From here on, dark letters are read on a colour."""


@dataclass(frozen=True)
class Square:
    """One cell of a panel."""

    share: float | None
    """In [0, 1]; `None` draws grey."""
    label: str


@dataclass(frozen=True)
class Panel:
    """One heat map."""

    title: str
    squares: Sequence[Sequence[Square]]
    """By row, then by column."""


def heatmap(
    title: str,
    panels: Sequence[Panel],
    rows: Sequence[str],
    columns: Sequence[str],
    row_title: str,
    column_title: str,
    caption: str,
) -> bytes:
    """Return a PNG of all panels, two beside each other.

    Args:
        title: Above all.
        panels: Each with `len(rows)` x `len(columns)` squares.
        rows: Names.
        columns: Names.
        row_title: What rows are.
        column_title: What columns are.
        caption: Below all; broken into lines where it is too long.

    Raises:
        InputError: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw
    except ImportError as exc:
        raise InputError(
            "Pictures need Pillow. Install it: `pip install 'hybridqa[eval]'`."
        ) from exc

    width = _LEFT + _CELL[0] * len(columns) + _GAP
    height = _TOP + _CELL[1] * len(rows) + _BOTTOM
    across = min(2, len(panels))
    down = -(-len(panels) // across)
    across_px, down_px = max(width * across + _GAP, _LEAST), _TOP + height * down
    lines = _broken(caption, across_px - 2 * _GAP)
    size = across_px, down_px + _LINE * len(lines) + _GAP
    image = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(image)
    _write(draw, (_GAP, _GAP), title, _LARGE)
    for n, panel in enumerate(panels):
        corner = (n % across * width, _TOP + n // across * height)
        _draw(draw, corner, panel, rows, columns, row_title, column_title)
    for n, line in enumerate(lines):
        _write(draw, (_GAP, down_px + _LINE * n), line, _SMALL, _FAINT)
    written = BytesIO()
    image.save(written, "PNG", optimize=True)
    return written.getvalue()


def _draw(
    draw: ImageDraw,
    corner: tuple[int, int],
    panel: Panel,
    rows: Sequence[str],
    columns: Sequence[str],
    row_title: str,
    column_title: str,
) -> None:
    left, top = corner[0] + _LEFT, corner[1] + _TOP
    _write(draw, (left, top - 48), panel.title, _PLAIN)
    _write(draw, (left - 10, top - 22), row_title, _SMALL, _FAINT, "ra")
    for m, name in enumerate(columns):
        middle = left + m * _CELL[0] + _CELL[0] // 2
        _write(draw, (middle, top - 8), name, _SMALL, anchor="ms")
    for n, name in enumerate(rows):
        middle = top + n * _CELL[1] + _CELL[1] // 2
        _write(draw, (left - 10, middle), name, _SMALL, anchor="rm")
        for m, square in enumerate(panel.squares[n]):
            x, y = left + m * _CELL[0], top + n * _CELL[1]
            colour = _NONE if square.share is None else colour_of(square.share)
            draw.rectangle((x, y, x + _CELL[0] - 2, y + _CELL[1] - 2), fill=colour)
            ink = _INK if _lightness(colour) > _LIGHT else _PAPER
            place = (x + _CELL[0] // 2, y + _CELL[1] // 2)
            _write(draw, place, square.label, _SMALL, ink, "mm")
    below = top + len(rows) * _CELL[1] + 8
    _write(draw, (left, below), column_title, _SMALL, _FAINT)


def colour_of(share: float) -> Colour:
    """Return the colour of a share in [0, 1]."""
    place = share * (len(_SCALE) - 1)
    n = min(int(place), len(_SCALE) - 2)
    red, green, blue = (
        round(a + (b - a) * (place - n)) for a, b in zip(_SCALE[n], _SCALE[n + 1], strict=True)
    )
    return red, green, blue


def _lightness(colour: Colour) -> float:
    """Return how light a colour looks, from 0 to 255 (ITU-R BT.601)."""
    red, green, blue = colour
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _broken(caption: str, width: int) -> list[str]:
    """Return a caption in lines of at most so many pixels, where words are no longer."""
    lines = [""]
    for word in caption.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and _font(_SMALL).getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _write(
    draw: ImageDraw,
    place: tuple[int, int],
    text: str,
    size: int,
    ink: Colour = _INK,
    anchor: str = "la",  # left, top
) -> None:
    draw.text(place, text, fill=ink, font=_font(size), anchor=anchor)


def _font(size: int) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)  # ships with Pillow
