"""HTML to the text a reader sees, with its block structure as newlines."""

from __future__ import annotations

import codecs
import re

import bs4
from bs4.dammit import EncodingDetector

from hybridqa.connectors.front_matter import OwnersWord, owners_word
from hybridqa.errors import SourceError

_PARAGRAPH, _LINE, _CELL = "\n\n", "\n", " | "
_PARAGRAPH_TAGS = """
    address article aside blockquote body details dialog div dl fieldset figcaption figure footer
    form h1 h2 h3 h4 h5 h6 header hr main nav ol p pre section table ul
"""
_LINE_TAGS = "caption dd dt legend li option summary tr"
_UNSEEN_TAGS = "audio canvas iframe math noscript object script style svg template title video"
_BREAKS = {
    **dict.fromkeys(_PARAGRAPH_TAGS.split(), _PARAGRAPH),
    **dict.fromkeys(_LINE_TAGS.split(), _LINE),
}
_UNSEEN = frozenset(_UNSEEN_TAGS.split())
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_SPACES = re.compile(r"[ \t\n\r\f]+")
_OWNERS = ("updated", "stability", "citation")


def parse_html(markup: str, name: str) -> tuple[str, OwnersWord]:
    """Return the visible text, and title and `<meta name=updated|stability|citation>`.

    Raises:
        SourceError: `updated` is not a date, or the markup is beyond repair.
    """
    try:
        # Not lxml: it silently drops what follows a NUL or lies in a very long text.
        soup = bs4.BeautifulSoup(markup, "html.parser")
    except (bs4.ParserRejectedMarkup, RecursionError) as exc:
        raise SourceError(
            f"`{name}` cannot be read as HTML: {exc}. Open it in a browser and save it anew."
        ) from exc
    title = next((tag for tag in soup.find_all("title") if not tag.find_parent("svg")), None)
    values = {"title": " ".join(title.get_text().split())} if title else {}
    for meta in soup.find_all("meta"):
        key = str(meta.get("name", "")).lower()
        if key in _OWNERS:
            values.setdefault(key, str(meta.get("content", "")).strip())
    return _visible_text(soup), owners_word(values, name)


def declared_encoding(data: bytes) -> str | None:
    """Return the encoding that a byte order mark or the markup itself names."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    encoding = EncodingDetector.find_declared_encoding(data, is_html=True)
    # Browsers read these labels so.
    return "cp1252" if encoding in ("iso-8859-1", "latin-1", "latin1", "us-ascii") else encoding


def _visible_text(soup: bs4.BeautifulSoup) -> str:
    pieces = _Pieces()
    todo: list[tuple[bs4.PageElement | str, bool]] = [(soup, False)]
    while todo:  # not recursive: markup may be nested thousands deep
        node, verbatim = todo.pop()
        if isinstance(node, bs4.Tag):
            if node.name in _UNSEEN or _is_hidden(node):
                continue
            if node.name == "br":
                pieces.add("\n", verbatim=True)
            inside = verbatim or node.name in ("pre", "textarea")
            mark = _BREAKS.get(str(node.name), "")
            pieces.break_off(mark)
            if node.name in ("td", "th"):
                pieces.next_cell()
            todo.append((mark, True))
            todo.extend((child, inside) for child in reversed(node.contents))
        elif type(node) is str:
            pieces.break_off(node)
        elif type(node) is bs4.NavigableString:  # others are comments and the like
            pieces.add(str(node), verbatim)
    return pieces.joined()


def _is_hidden(tag: bs4.Tag) -> bool:
    return tag.has_attr("hidden") or bool(_HIDDEN.search(str(tag.get("style", ""))))


class _Pieces:
    """Text so far, with white space collapsed as a browser does."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._last = ""
        """Last character so far, if any."""

    def break_off(self, mark: str) -> None:
        if mark != _LINE or self._last != "\n":
            self.add(mark, verbatim=True)

    def next_cell(self) -> None:
        if self._last not in ("", "\n"):
            self.add(_CELL.lstrip() if self._last == " " else _CELL, verbatim=True)

    def add(self, text: str, verbatim: bool) -> None:
        if not verbatim:
            text = _SPACES.sub(" ", text)
            if not self._last or self._last.isspace():
                text = text.lstrip(" ")
        if text:
            self._pieces.append(text)
            self._last = text[-1]

    def joined(self) -> str:
        text = re.sub(r"[ \t]+\n", "\n", "".join(self._pieces))
        return re.sub(r"\n{3,}", "\n\n", text).strip("\n")
