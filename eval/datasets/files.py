"""Data files as text: UTF-8, gzip or not, and never more than fits."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from hybridqa.errors import InputError

T = TypeVar("T")

MAX_LINE_BYTES = 64 << 20
MAX_FILE_BYTES = 2 << 30
"""Uncompressed, so that a small archive cannot fill the memory."""
MAX_WHOLE_BYTES = 512 << 20
"""Of a file that cannot be read line by line; uncompressed."""
_GZIP = b"\x1f\x8b"


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number, line) of all lines that are not blank.

    Raises:
        InputError: The file is missing, too large, a broken archive or not UTF-8.
    """
    size = number = 0
    with _opened(path) as file:
        while line := file.readline(MAX_LINE_BYTES + 1):
            number, size = number + 1, size + len(line)
            if len(line) > MAX_LINE_BYTES or size > MAX_FILE_BYTES:
                raise InputError(
                    f"`{path}`, line {number}: too large; a line may have {MAX_LINE_BYTES:,} "
                    f"bytes, the file {MAX_FILE_BYTES:,} uncompressed. Split it."
                )
            text = _decode(line, f"`{path}`, line {number}")
            if text.strip():
                yield number, text


def read_text(path: Path) -> str:
    """Return a whole file.

    Raises:
        InputError: As `read_lines`, or there is nothing in it.
    """
    with _opened(path) as file:
        data = file.read(MAX_WHOLE_BYTES + 1)
    if len(data) > MAX_WHOLE_BYTES:
        raise InputError(
            f"`{path}` has more than {MAX_WHOLE_BYTES:,} bytes uncompressed. Split it, or convert "
            "it to JSON Lines, which are read line by line."
        )
    text = _decode(data, f"`{path}`")
    if not text.strip():
        raise InputError(f"`{path}` is empty. Put questions in it, or name another file.")
    return text


def checked(kind: TypeAdapter[T], value: Any, where: str, form: str) -> T:
    """Return a value as what it must be.

    Args:
        kind: What it must be.
        value: Made of JSON, or JSON itself.
        where: File and line, for errors.
        form: What it should look like, for errors.

    Raises:
        InputError: It is something else.
    """
    try:
        if isinstance(value, str):
            return kind.validate_json(value)
        return kind.validate_python(value)
    except ValidationError as exc:
        error = exc.errors(include_url=False, include_context=False)[0]
        at = ".".join(map(str, error["loc"]))
        fault = f"`{at}`: {error['msg']}" if at else error["msg"]
        raise InputError(f"{where}: {fault}. It must look like {form}.") from exc


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file, unpacked where it is gzip, whatever its name."""
    try:
        with path.open("rb") as probe:
            packed = probe.read(2) == _GZIP
        with cast(BinaryIO, gzip.open(path)) if packed else path.open("rb") as file:
            yield file
    except (EOFError, zlib.error, gzip.BadGzipFile) as exc:
        raise InputError(
            f"`{path}` is not a whole gzip file: {exc}. Fetch or pack it again."
        ) from exc
    except OSError as exc:
        raise InputError(
            f"`{path}` cannot be read: {exc.strerror or exc}. Give the path of a data file."
        ) from exc


def _decode(data: bytes, where: str) -> str:
    try:
        if b"\0" not in data:
            return data.removeprefix(codecs.BOM_UTF8).decode("utf-8")
        fault = "NUL bytes, as in UTF-16 text"
    except UnicodeDecodeError as exc:
        fault = f"byte 0x{data[exc.start]:02x} at {exc.start}"
    raise InputError(
        f"{where}: not UTF-8 text ({fault}). Save it as UTF-8, e.g. with `iconv -t UTF-8`."
    )
