"""The answers of one record, and where it says that they stand."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hybridqa.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The data's word that an answer stands at an offset of the (first) document."""

    start: int
    answer: str


def read_answers(
    stated: Mapping[str, Any], where: str, separator: str | None
) -> tuple[tuple[str, ...], tuple[Claim, ...]]:
    """Return the answers, trimmed and each once, and where they are said to stand.

    Args:
        stated: `answers`, as texts, SQuAD's objects `{"text", "answer_start"}` or, as on the hub,
            one such object of lists; `answer_start` and `answer_end`, in characters, if there are.
        where: File and line, for errors.
        separator: Between several in one text.

    Raises:
        InputError: The answers are no texts, or the offsets do not fit them.
    """
    given, starts = stated["answers"], stated.get("answer_start")
    at = f"{where}: `answers`"
    if isinstance(given, Mapping):
        starts = stated.get("answer_start", given.get("answer_start"))
        given = _member(given, at)
    elif isinstance(given, Sequence) and any(isinstance(one, Mapping) for one in given):
        if not all(isinstance(one, Mapping) for one in given):
            raise InputError(f"{at} holds both texts and objects. Make all of them the same.")
        starts = stated.get("answer_start", [one.get("answer_start") for one in given])
        given = [_member(one, at) for one in given]
    texts = as_texts(given, at, separator)
    offsets = _offsets(starts, f"{where}: `answer_start`", separator)
    if any(offset is not None for offset in offsets[len(texts) :]):
        raise InputError(
            f"{where}: there are {len(texts)} `answers`, but {len(offsets)} `answer_start`. "
            "Give each answer one, or leave them out."
        )
    claims = [
        Claim(start=offset, answer=text)
        for text, offset in zip(texts, offsets, strict=False)
        if offset is not None and text.strip()
    ]
    end = _offset(stated.get("answer_end"), f"{where}: `answer_end`")
    if end is not None and claims and end != claims[0].start + len(claims[0].answer):
        raise InputError(
            f"{where}: from `start` to `end` must be as long as the first answer. Count both in "
            "characters, or leave them out."
        )
    answers = dict.fromkeys(text.strip() for text in texts if text.strip())
    return tuple(answers), tuple(claims)


def _member(answer: Mapping[str, Any], at: str) -> Any:
    if "text" not in answer:
        raise InputError(f"{at} has no `text`; it has {listed(answer)}. Rename one.")
    return answer["text"]


def as_texts(value: Any, at: str, separator: str | None = None) -> tuple[str, ...]:
    """Return one text or a list of them as a tuple; empty for a blank.

    Raises:
        InputError: As `as_text`.
    """
    if value is None or value == "":
        return ()
    if isinstance(value, str) and separator:
        return tuple(part.strip() for part in value.split(separator))
    if isinstance(value, str) or not isinstance(value, Sequence):
        return (as_text(value, at),)
    return tuple(as_text(one, at) for one in value)


def as_text(value: Any, at: str) -> str:
    """Return a text, whole number or truth value (`yes` or `no`) as a text; empty for `None`.

    Raises:
        InputError: It is something else.
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str | int | None):
        return "" if value is None else str(value)
    raise InputError(f"{at} holds {shown(value)}. Make it a text.")


def _offsets(value: Any, at: str, separator: str | None) -> list[int | None]:
    if isinstance(value, str):
        value = value.split(separator) if separator else [value]
    elif not isinstance(value, Sequence):
        value = [value]
    return [_offset(one, at) for one in value]


def _offset(value: Any, at: str) -> int | None:
    """Return an offset; `None` for the blanks and -1 by which data says that it has none."""
    if value is None or value == -1 or (isinstance(value, str) and value.strip() in ("", "-1")):
        return None
    if isinstance(value, str) and value.strip().isdecimal() and len(value) < 16:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise InputError(
        f"{at} is {shown(value)}. Count characters from 0, or leave it out: then the answer is "
        "searched for."
    )


def shown(value: Any) -> str:
    return f"`{str(value)[:40]}` ({type(value).__name__})"


def listed(names: Collection[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"
