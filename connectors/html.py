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
_MAX_TAGS, _MAX_ATTRIBUTES = 300_000, 1_000_000
_TAG = re.compile(r"""<[a-zA-Z](?>[^>=]++|=\s*+(?:"[^"]*+"|'[^']*+')?+)*+""")
_VALUE_OR_GAP = re.compile(r"""=\s*+(?>"[^"]*+"|'[^']*+')|[\s/]++""")
_SECTION = "if|else|endif"
_NEVER_CLOSED = (
    (re.compile("<!--"), re.compile(r"--\s*>")),
    (re.compile(rf"<!\[(?={_SECTION})", re.IGNORECASE), re.compile(r"\]\s*>")),
    (re.compile(rf"<!\[(?!{_SECTION})", re.IGNORECASE), re.compile(r"\]\s*\]\s*>")),
    (re.compile("<"), re.compile(">")),
)
"""What opens, and what would close it."""
_LINE_END_SPACES = re.compile(r"(?<![ \t])[ \t]+\n")
_SPACES = re.compile(r"[ \t\n\r\f]+")
_DECLARED_BYTES = 4096
_OWNERS = ("updated", "stability", "citation")


def parse_html(markup: str, name: str) -> tuple[str, OwnersWord]:
    """Return the visible text, and title and `<meta name=updated|stability|citation>`.

    Raises:
        SourceError: `updated` is not a date, or the markup is beyond repair or far too much.
    """
    _check_size(markup, name)
    try:
        # Not lxml: it silently drops what follows a NUL or lies in a very long text.
        soup = bs4.BeautifulSoup(_without_loose_ends(markup), "html.parser")
    except (bs4.ParserRejectedMarkup, RecursionError) as exc:
        raise SourceError(
            f"`{name}` cannot be read as HTML: {exc}. Open it in a browser and save it anew."
        ) from exc
    title = _title(soup)
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
    # Browsers look no further than this either.
    encoding = EncodingDetector.find_declared_encoding(data[:_DECLARED_BYTES], is_html=True)
    # Browsers read these labels so.
    return "cp1252" if encoding in ("iso-8859-1", "latin-1", "latin1", "us-ascii") else encoding


def _check_size(markup: str, name: str) -> None:
    """Refuse what would become a tree of gigabytes."""
    tags = markup.count("<") + markup.count("&")
    attributes = 0
    if tags <= _MAX_TAGS:
        attributes = sum(len(_VALUE_OR_GAP.findall(tag[0])) for tag in _TAG.finditer(markup))
    for count, limit, what in (
        (tags, _MAX_TAGS, "tags and entities"),
        (attributes, _MAX_ATTRIBUTES, "attributes"),
    ):
        if count > limit:
            raise SourceError(f"`{name}` has {count} HTML {what}, limit {limit}. Split it.")


def _without_loose_ends(markup: str) -> str:
    """Escape what opens and is never closed: the parser would look for its end again and again."""
    for opening, closing in _NEVER_CLOSED:
        end = 0
        for found in closing.finditer(markup):
            end = found.end()
        markup = markup[:end] + opening.sub(lambda loose: "&lt;" + loose[0][1:], markup[end:])
    return markup


def _title(soup: bs4.BeautifulSoup) -> bs4.Tag | None:
    """Return the first title that is not a drawing's."""
    todo: list[bs4.Tag] = [soup]
    while todo:
        tag = todo.pop()
        if tag.name == "title":
            return tag
        if tag.name != "svg":
            todo.extend(child for child in reversed(tag.contents) if isinstance(child, bs4.Tag))
    return None


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
        text = _LINE_END_SPACES.sub("\n", "".join(self._pieces))
        return re.sub(r"\n{3,}", "\n\n", text).strip("\n")
