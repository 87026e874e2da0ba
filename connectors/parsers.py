"""File contents to text. Third-party errors become `SourceError`; text is never truncated."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import docx
import pypdf
from docx.blkcntnr import BlockItemContainer
from docx.document import Document as DocxDocument
from docx.table import Table

from hybridqa.connectors.front_matter import OwnersWord, split_front_matter
from hybridqa.connectors.html import declared_encoding, parse_html
from hybridqa.errors import SourceError

MAX_UNZIPPED_BYTES = 200_000_000
_FENCE = re.compile(r"^[ \t]*(```+|~~~+).*?(?:^[ \t]*\1|\Z)", re.DOTALL | re.MULTILINE)
_HEADING = re.compile(r"^ {0,3}#[ \t]+(.+?)[ \t]*#*[ \t]*$", re.MULTILINE)


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
    heading = None if word.title else _HEADING.search(_FENCE.sub("", text))
    if heading:
        word = OwnersWord(title=heading[1], updated=word.updated, metadata=word.metadata)
    return Parsed(text=text, word=word)


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
        pages = [page.extract_text() for page in reader.pages]
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
    rows = []
    for row in table.rows:
        cells = dict.fromkeys(row.cells)  # a merged cell comes once for each column it spans
        rows.append(" | ".join("\n".join(_docx_blocks(cell)) for cell in cells))
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
