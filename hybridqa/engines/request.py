"""Refuse what cannot be asked. Loads no model, so that bad input is told at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from hybridqa.errors import InputError, QuestionError, UnknownDocumentError
from hybridqa.stores.catalog import Catalog
from hybridqa.types import Arm, Style

Name = TypeVar("Name", Arm, Style)


def checked_name(kind: type[Name], name: str | None) -> Name | None:
    """Return an arm or style, given itself or by its name.

    Raises:
        InputError: There is none of that name.
    """
    if name is None:
        return None
    try:
        return kind(name)
    except ValueError as exc:
        known = ", ".join(f"`{each}`" for each in kind)
        raise InputError(
            f"There is no {kind.__name__.lower()} `{name}`. Use one of {known}."
        ) from exc


def checked_question(question: str, max_chars: int) -> str:
    """Return the question without space around it.

    Raises:
        QuestionError: It is empty, too long, or holds what no encoding can.
    """
    question = question.replace("\0", " ").strip()
    if not question:
        raise QuestionError("The question is empty. Ask something.")
    if len(question) > max_chars:
        raise QuestionError(
            f"The question has {len(question)} characters, limit {max_chars}. Shorten it, or raise "
            "`answer: max_question_chars` in the config."
        )
    try:
        question.encode()
    except UnicodeEncodeError as exc:
        raise QuestionError(
            f"The question is not UTF-8 at character {exc.start}: {question[exc.start]!a}. "
            "Set the terminal to UTF-8, or type it anew."
        ) from exc
    return question


def check_documents(document_ids: Sequence[str], catalog: Catalog) -> None:
    """See that all named documents exist.

    Raises:
        UnknownDocumentError: One does not.
    """
    live = catalog.live_hashes(document_ids)
    for document_id in document_ids:
        if document_id not in live:
            raise UnknownDocumentError(document_id)
