"""One question as data states it: a mapping of column to value, whatever file it came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hybridqa.errors import InputError
from hybridqa.eval.datasets.answers import Claim, as_text, as_texts, listed, read_answers, shown
from hybridqa.eval.datasets.labels import LABELS, read_labels

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "id": ("id",),
    "question": ("question", "query", "user_input"),
    "answers": ("answers", "answer", "reference", "ground_truth"),
    "answer_start": ("answer_start", "start"),
    "answer_end": ("answer_end", "end"),
    "context": ("context", "contexts", "passage", "reference_contexts"),
    "documents": ("documents", "document"),
    "title": ("title",),
    "is_impossible": ("is_impossible",),
    "answerable": ("answerable",),
}
"""What is read of a question, and the columns it is looked for in, the first that there is."""

_ANSWERS, _DOCUMENTS = "|", ";"  # between several in one cell of a table
_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True, kw_only=True)
class Question:
    """Not yet held against its documents."""

    where: str
    """File and line, for errors."""
    question: str
    answers: tuple[str, ...]
    """Empty where no document says."""
    id: str = ""
    """Empty where the data gives none."""
    documents: tuple[str, ...] = ()
    """Ids that the data names."""
    contexts: tuple[str, ...] = ()
    """Texts that stand beside the question instead of in documents of their own."""
    title: str = ""
    """Of the contexts."""
    claims: tuple[Claim, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


def check_columns(columns: Mapping[str, str]) -> None:
    """See that a mapping of ours to the data's columns names what there is.

    Raises:
        InputError: It does not.
    """
    for name in columns:
        if name not in COLUMNS and name not in LABELS:
            raise InputError(
                f"No column can be mapped to `{name}`. Map one to some of "
                f"{listed((*COLUMNS, *LABELS))}."
            )


def read_question(
    record: Mapping[str, Any],
    where: str,
    columns: Mapping[str, str] | None = None,
    in_cells: bool = False,
) -> Question:
    """Return the question of one record.

    Args:
        record: Value by column; the case of column names does not count.
        where: File and line, for errors.
        columns: The data's column by our name, for what is not called as in `COLUMNS`; an empty
            one says that the data has none.
        in_cells: Several answers are separated by `|`, several documents by `;`.

    Raises:
        InputError: A column is missing, or its value cannot be used.
    """
    stated, others = _sorted(record, columns or {}, where)
    for name in ("question", "answers"):
        if name not in stated:
            raise InputError(
                f"{where}: there is no `{name}`; there are {listed(others | stated)}. Rename a "
                f"column, or map one with `columns` (`{name}=NAME`)."
            )
    question = stated["question"]
    if not isinstance(question, str | None):
        raise InputError(f"{where}: `question` is {shown(question)}. Make it a text.")
    if not question or not question.strip():
        raise InputError(f"{where}: `question` is blank. Write one, or remove the entry.")
    answers, claims = read_answers(stated, where, _ANSWERS if in_cells else None)
    _check_answerable(stated, answers, where)
    if isinstance(others.get("labels"), Mapping):
        others |= others.pop("labels")
    documents = as_texts(
        stated.get("documents"), f"{where}: `documents`", _DOCUMENTS if in_cells else None
    )
    contexts = as_texts(stated.get("context"), f"{where}: `context`")
    title = stated.get("title")
    return Question(
        where=where,
        id=as_text(stated.get("id"), f"{where}: `id`").strip(),
        question=question.strip(),
        answers=answers,
        documents=tuple(name.strip() for name in documents if name.strip()),
        contexts=tuple(text for text in contexts if text.strip()),
        title=" ".join(title.split()) if isinstance(title, str) else "",
        claims=claims,
        labels=read_labels(question, others, where),
    )


def _sorted(
    record: Mapping[str, Any], columns: Mapping[str, str], where: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what is ours by our names, and the rest."""
    rest = {name.strip().lower(): value for name, value in record.items()}
    named = {ours: theirs.strip().lower() for ours, theirs in columns.items()}
    for ours, theirs in named.items():
        if theirs and theirs not in rest:
            raise InputError(
                f"{where}: there is no column `{columns[ours]}`, which was to be the `{ours}`. "
                f"There are {listed(rest)}."
            )
    stated = {ours: rest[theirs] if theirs else None for ours, theirs in named.items()}
    for theirs in named.values():
        rest.pop(theirs, None)
    for ours, aliases in COLUMNS.items():
        found = [rest.pop(alias) for alias in aliases if alias in rest]
        if found and ours not in named:
            stated[ours] = found[0]
    rest |= {name: stated.pop(name) for name in LABELS if name in stated}
    return stated, rest


def _check_answerable(stated: Mapping[str, Any], answers: Sequence[str], where: str) -> None:
    """See that the data does not contradict itself."""
    for name, says in (("answerable", True), ("is_impossible", False)):
        value = stated.get(name)
        truth = _TRUTHS.get(str(value).strip().lower())
        if truth is not None and (truth is says) is not bool(answers):
            raise InputError(
                f"{where}: `{name}` is {value}, but it has {len(answers)} answers. Correct one, "
                f"or map `{name}` to no column."
            )
