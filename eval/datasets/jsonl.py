"""JSON Lines: a passage with its questions, or a question, a line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, TypeAdapter
from pydantic.dataclasses import dataclass

from hybridqa.errors import InputError
from hybridqa.eval.datasets.files import checked, read_lines
from hybridqa.eval.datasets.questions import COLUMNS, Question, read_question
from hybridqa.types import Document

_FORM = (
    '{"id": ..., "context": ..., "qas": [{"question": ..., "answers": [...]}]} or '
    '{"question": ..., "answers": [...], "document": ...}'
)


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


Text = Annotated[str, AfterValidator(_not_blank)]


@dataclass(frozen=True, kw_only=True)
class _Passage:
    id: Text
    context: Text
    qas: list[dict[str, Any]]
    title: str = ""
    source: str = ""


_OBJECT = TypeAdapter(dict[str, Any])
_PASSAGE = TypeAdapter(_Passage)


def read_jsonl(path: Path, columns: Mapping[str, str]) -> tuple[list[Document], list[Question]]:
    """Read passages with their questions, or questions alone; a file may hold both.

    Raises:
        InputError: The file cannot be read, is empty, or a line is neither.
    """
    asks = {columns.get("question", "").strip().lower(), *COLUMNS["question"]}
    documents: dict[str, Document] = {}
    questions: list[Question] = []
    number = 0
    for number, line in read_lines(path):
        where = f"`{path}`, line {number}"
        record = checked(_OBJECT, line, where, _FORM)
        if "qas" not in record and asks & {key.strip().lower() for key in record}:
            questions.append(read_question(record, where, columns))
            continue
        passage = checked(_PASSAGE, record, where, _FORM)
        if passage.id in documents:
            raise InputError(
                f"{where}: the id `{passage.id}` has been used before. Give every passage an id of "
                "its own."
            )
        documents[passage.id] = Document(
            id=passage.id,
            text=passage.context,
            title=passage.title or passage.id,
            source=passage.source or str(path),
        )
        for n, qa in enumerate(passage.qas):
            entry = {**qa, "documents": passage.id, "context": None}
            questions.append(read_question(entry, f"{where}, `qas.{n}`", columns))
    if not number:
        raise InputError(f"`{path}` is empty. Each line must look like {_FORM}.")
    return list(documents.values()), questions
