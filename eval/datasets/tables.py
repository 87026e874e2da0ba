"""Tables of questions: CSV, or TSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path

from hybridqa.errors import InputError
from hybridqa.eval.datasets.files import read_text
from hybridqa.eval.datasets.questions import Question, read_question


def read_table(path: Path, tabs: bool, columns: Mapping[str, str]) -> list[Question]:
    """Read a question a row, by the columns that the first row names.

    Args:
        path: Of the file.
        tabs: Cells are separated by tabs, else by commas (or semicolons, if the header is).
        columns: See `questions.read_question`.

    Raises:
        InputError: The file cannot be read, or a row has not the cells of the first.
    """
    text = read_text(path)
    header = text.lstrip().partition("\n")[0]
    separator = "\t" if tabs else ";" if ";" in header and "," not in header else ","
    return [
        read_question(record, where, columns, in_cells=True)
        for where, record in _records(path, text, separator)
    ]


def _records(path: Path, text: str, separator: str) -> Iterator[tuple[str, dict[str, str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows = (row for row in reader if any(cell.strip() for cell in row))
    try:
        header = [cell.strip().lower() for cell in next(rows)]
        if "" in header or len(set(header)) < len(header):
            raise InputError(
                f"`{path}`, line {reader.line_num}: a column has no name, or two have the same. "
                "Name each, e.g. `question,answers,document`."
            )
        for row in rows:
            where = f"`{path}`, line {reader.line_num}"
            if len(row) != len(header):
                raise InputError(
                    f"{where}: {len(row)} cells, but {len(header)} columns ({', '.join(header)}). "
                    'Put cells that hold a separator or a line break in "quotes".'
                )
            yield where, dict(zip(header, row, strict=True))
    except csv.Error as exc:
        raise InputError(
            f"`{path}`, line {reader.line_num}: {exc}. Write quotes in a quoted cell twice, and "
            "put long texts into files of a folder `documents`."
        ) from exc
