"""SQuAD's own JSON, of version 1.1 or 2.0: articles, their paragraphs, their questions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from hybridqa.eval.datasets.files import checked, read_text
from hybridqa.eval.datasets.jsonl import Text
from hybridqa.eval.datasets.questions import Question, read_question
from hybridqa.types import Document

_FORM = (
    '{"data": [{"title": ..., "paragraphs": [{"context": ..., "qas": [{"id": ..., "question": ..., '
    '"answers": [{"text": ..., "answer_start": 0}]}]}]}]}; other JSON goes into `.jsonl`, one '
    "object a line"
)


@dataclass(frozen=True, kw_only=True)
class _Paragraph:
    context: Text
    qas: list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class _Article:
    paragraphs: list[_Paragraph]
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class _File:
    data: list[_Article]


_FILE = TypeAdapter(_File)


def read_squad(
    path: Path, name: str, columns: Mapping[str, str]
) -> tuple[list[Document], list[Question]]:
    """Read a file in SQuAD's format; a paragraph is a document, called by its title and number.

    Args:
        path: Of the file.
        name: Stands for a missing title.
        columns: See `questions.read_question`.

    Raises:
        InputError: The file cannot be read, or is something else.
    """
    documents: list[Document] = []
    questions: list[Question] = []
    counts: Counter[str] = Counter()
    for a, article in enumerate(checked(_FILE, read_text(path), f"`{path}`", _FORM).data):
        title = " ".join(article.title.split()) or name
        for p, paragraph in enumerate(article.paragraphs):
            counts[title] += 1
            document_id = f"{title}-{counts[title]}"
            documents.append(
                Document(id=document_id, text=paragraph.context, title=title, source=str(path))
            )
            for n, qa in enumerate(paragraph.qas):
                entry = {**qa, "documents": document_id, "context": None}
                where = f"`{path}`, `data.{a}.paragraphs.{p}.qas.{n}`"
                questions.append(read_question(entry, where, columns))
    return documents, questions
