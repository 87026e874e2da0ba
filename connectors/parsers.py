"""File contents to text. Third-party errors become `SourceError`; text is never truncated."""

from __future__ import annotations

import io
import re
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import docx
import pypdf
from docx.blkcntnr import BlockItemContainer
from docx.document import Document as DocxDocument
from docx.table import Table, _Cell

from hybridqa.connectors.front_matter import OwnersWord, split_front_matter
from hybridqa.connectors.html import declared_encoding, parse_html
from hybridqa.errors import SourceError

MAX_UNZIPPED_BYTES = 200_000_000
_PDF_S, _PDF_S_PER_MB, _MAX_PDF_S = 3, 20, 120
"""Seconds of processor time, whatever else it does meanwhile."""
_IMAGES = (".png", ".jpeg", ".jpg", ".gif", ".emf", ".wmf", ".tiff", ".bmp", ".bin")
_MAX_TAGS = 1_500_000
_MAX_CHARS = 20_000_000
_FENCE = re.compile(r"^[ \t]*(```+|~~~+).*?(?:^[ \t]*\1|\Z)", re.DOTALL | re.MULTILINE)
_HEADING = re.compile(r"^ {0,3}#[ \t]+(.+)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Parsed:
    r"""A file's text, with `\n` newlines, and what its owner says of it."""

    text: str
    word: OwnersWord


def parse(suffix: str, data: bytes, name: str) -> Parsed:
    """Return the text of a file.

    Args:
        suffix: One of `PARSERS`.
        data: Contents of the file.
        name: Of the file, for errors.

    Raises:
        SourceError: The contents are broken, or there is no text in them.
    """
    parsed = PARSERS[suffix](data, name)
    if not parsed.text.strip():
        remedy = (
            "Scans need OCR first, e.g. with ocrmypdf."
            if suffix == ".pdf"
            else "Fill it, or remove it."
        )
        raise SourceError(f"`{name}` ({len(data)} bytes) holds no text. {remedy}")
    return parsed


def _parse_plain(data: bytes, name: str) -> Parsed:
    return Parsed(text=decode(data, name), word=OwnersWord())


def _parse_text(data: bytes, name: str) -> Parsed:
    word, text = split_front_matter(decode(data, name), name)
    return Parsed(text=text, word=word)


def _parse_markdown(data: bytes, name: str) -> Parsed:
    word, text = split_front_matter(decode(data, name), name)
    if not word.title:
        word = replace(word, title=_first_heading(text))
    return Parsed(text=text, word=word)


def _first_heading(text: str) -> str | None:
    heading = _HEADING.search(_FENCE.sub("", text))
    # By hand: a pattern for it takes time that grows with the square of a line's length.
    return (heading[1].rstrip(" \t").rstrip("#").rstrip(" \t") or None) if heading else None


def _parse_html(data: bytes, name: str) -> Parsed:
    try:
        markup = decode(data, name)
    except SourceError:
        try:
            markup = normalize_newlines(data.decode(declared_encoding(data) or "utf-8"))
        except (LookupError, ValueError):
            markup = "\0"
        if "\0" in markup:
            raise
    text, word = parse_html(markup.lstrip("\ufeff"), name)
    return Parsed(text=text, word=word)


def _parse_pdf(data: bytes, name: str) -> Parsed:
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise SourceError(
                f"`{name}` is an encrypted PDF. Save a copy without a password, "
                "e.g. with `qpdf --decrypt`."
            )
        pages = _pdf_pages(reader, len(data), name)
    except SourceError:
        raise
    except (
        Exception
    ) as exc:  # beside its own errors, pypdf lets through what broken objects set off
        raise SourceError(
            f"`{name}` cannot be read as a PDF: {exc or type(exc).__name__}. "
            "Repair it, e.g. with `qpdf`, or save it anew."
        ) from exc
    text = "\n\n".join(page.strip("\n") for page in pages).replace("\0", "")
    # Broken font tables yield lone surrogates, which no encoder takes.
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return Parsed(text=normalize_newlines(text), word=OwnersWord())


def _pdf_pages(reader: pypdf.PdfReader, size_bytes: int, name: str) -> list[str]:
    limit_s = min(_PDF_S + _PDF_S_PER_MB * size_bytes / 1e6, _MAX_PDF_S)
    end = time.thread_time() + limit_s

    def check_time(*_: object) -> None:
        # A small file may use a page over and over, so that it never ends.
        if time.thread_time() > end:
            raise SourceError(
                f"`{name}` ({size_bytes} bytes) takes more than {limit_s:.0f} s to read. Print it "
                "to a new PDF, or split it."
            )

    pages = []
    for page in reader.pages:
        check_time()
        pages.append(page.extract_text(visitor_operand_before=check_time))
    return pages


def _parse_docx(data: bytes, name: str) -> Parsed:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            # Python reads no member past its declared size, so the declared sum is a bound.
            size = sum(member.file_size for member in archive.infolist())
            if size > MAX_UNZIPPED_BYTES:
                raise SourceError(
                    f"`{name}` unpacks to {size} bytes, limit {MAX_UNZIPPED_BYTES}. "
                    "Remove its images, or split it."
                )
            # A tag takes a few bytes in the file, and a thousand in python-docx's tree.
            tags = sum(
                archive.read(member).count(b"<")
                for member in archive.infolist()
                if not member.filename.endswith(_IMAGES)
            )
            if tags > _MAX_TAGS:
                raise SourceError(f"`{name}` has {tags} XML tags, limit {_MAX_TAGS}. Split it.")
        text = "\n\n".join(_docx_blocks(docx.Document(io.BytesIO(data))))
    except SourceError:
        raise
    except Exception as exc:  # zipfile, lxml and python-docx share no error but this one
        raise SourceError(
            f"`{name}` cannot be read as a Word document: {exc or type(exc).__name__}. "
            "Open it in a word processor and save it as DOCX."
        ) from exc
    return Parsed(text=normalize_newlines(text), word=OwnersWord())


def _docx_blocks(container: DocxDocument | BlockItemContainer) -> Iterator[str]:
    for item in container.iter_inner_content():
        text = _docx_table(item) if isinstance(item, Table) else item.text
        if text.strip():
            yield text


def _docx_table(table: Table) -> str:
    """Return the rows; cells merged with the one above repeat its text.

    Not by `row.cells`, which holds a cell once for each column it says it spans: maybe billions.
    """
    rows: list[str] = []
    above: dict[int, str] = {}
    chars = 0
    for row in table.rows:
        cells: list[str] = []
        here: dict[int, str] = {}
        column = row.grid_cols_before
        for tc in row._tr.tc_lst:
            if tc.vMerge == "continue" and column in above:
                text = above[column]
            else:
                text = "\n".join(_docx_blocks(_Cell(tc, table)))
            cells.append(text)
            here[column] = text
            column += tc.grid_span
            chars += len(text)
            if chars > _MAX_CHARS:
                raise ValueError(f"a table has more than {_MAX_CHARS} characters")
        rows.append(" | ".join(cells))
        above = here
    return "\n".join(rows)


def decode(data: bytes, name: str) -> str:
    r"""Return UTF-8 text (with or without a byte order mark), with `\n` newlines.

    Raises:
        SourceError: It is something else.
    """
    remedy = "Convert it, e.g. with `iconv -t UTF-8`, or rename it if it is no text."
    if b"\0" in data:
        raise SourceError(f"`{name}` holds NUL bytes: binary data, or UTF-16 text. {remedy}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise SourceError(
            f"`{name}` is not UTF-8 text: byte 0x{data[exc.start]:02x} at {exc.start}. {remedy}"
        ) from exc
    return normalize_newlines(text)


def normalize_newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


PARSERS: dict[str, Callable[[bytes, str], Parsed]] = {
    ".txt": _parse_text,
    ".md": _parse_markdown,
    ".markdown": _parse_markdown,
    ".rst": _parse_plain,
    ".html": _parse_html,
    ".htm": _parse_html,
    ".pdf": _parse_pdf,
    ".docx": _parse_docx,
}
"""By suffix in lower case."""
