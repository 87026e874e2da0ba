"""What slices a question falls into, in the words that reports use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hybridqa.errors import InputError

LABELS = ("stability", "citation_need", "question_type")
"""Those with a meaning of their own; any other is the data's."""
MAX_LABEL_CHARS = 60
"""Longer values are notes, not labels."""

_SPELLINGS = {"citation_needed": "citation_need", "kind": "question_type"}
_STABILITY = {"stable": "stable", "volatile": "volatile"}
_CITATION = {
    **dict.fromkeys(("needed", "required", "yes", "true", "1"), "needed"),
    **dict.fromkeys(("not needed", "not required", "no", "false", "0"), "not needed"),
}
_WORD = re.compile(
    r"\b(?:(?P<count>how (?:many|much))|(?P<who>who(?:m|se)?)"
    r"|(?P<same>what|when|where|why|how|which))\b"
)
_YES_NO = re.compile(
    r"(?:(?:and|but|so|or)\s+)?(?:is|are|am|was|were|do|does|did|has|have|had|can|could|will|would"
    r"|shall|should|may|might|must)(?:n't)?\b"
)
_CLAUSE = re.compile(r"[.!?;:]\s+")


def read_labels(question: str, stated: Mapping[str, Any], where: str) -> dict[str, str]:
    """Return a question's labels; `question_type` is told from its words where the data is silent.

    Args:
        question: Its text.
        stated: By column; what is no short text, number or truth value is left out.
        where: File and line, for errors.

    Raises:
        InputError: `stability` or `citation_needed` is none of the words for it.
    """
    labels = {}
    for name, value in stated.items():
        text = _text(value)
        if text and len(text) <= MAX_LABEL_CHARS:
            labels[_SPELLINGS.get(name, name)] = text
    for name, known in (("stability", _STABILITY), ("citation_need", _CITATION)):
        if name in labels:
            labels[name] = _known(name, labels[name], known, where)
    labels.setdefault("question_type", question_type(question))
    return labels


def question_type(question: str) -> str:
    """Return who, what, when, where, why, how, how many, which, yes-no or other (English)."""
    text = question.lower().replace("’", "'").strip()
    clauses = [clause for clause in _CLAUSE.split(text) if clause]
    last = clauses[-1] if clauses else text
    if _YES_NO.match(last):
        return "yes-no"
    found = _WORD.search(last) or _WORD.search(text)
    if found is None:
        return "other"
    if found["count"]:
        return "how many"
    return "who" if found["who"] else found["same"]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value).strip() if isinstance(value, str | int | float) else ""


def _known(name: str, value: str, known: Mapping[str, str], where: str) -> str:
    try:
        return known[value.lower()]
    except KeyError:
        raise InputError(
            f"{where}: `{name}` is `{value}`, but must be one of {', '.join(known)}. "
            "Correct it, or rename the column."
        ) from None
