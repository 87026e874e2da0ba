"""Kinds of questions, so that it shows where an arm is good."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hybridqa.eval.rows import DocumentRow, QuestionRow, Run
from hybridqa.eval.statistics import Bootstrap, Floats, Interval

MOST_VALUES, MOST_DOCUMENTS = 60, 40

_LENGTHS = (100, 300, 1000, 3000)
_SENTENCE_WORDS = 9
_DATE = re.compile(
    r"\b(?:january|february|(?-i:March)|april|(?-i:May)|june|july|august|september|october|november"
    r"|december|(?:mon|tues|wednes|thurs|fri|satur|sun)days?|today|tomorrow|yesterday|noon|midnight"
    r"|\d{1,2}:\d\d|\d{1,2}\s?[ap]\.?m|\d{4}-\d\d-\d\d|\d{1,2}[./]\d{1,2}[./]\d{2,4}"
    r"|(?:1\d|20)\d\ds?(?!\s*[\w%]))\b",  # a year, unless a unit or a noun follows
    re.IGNORECASE,
)
_NUMBER = re.compile(
    r"\d|\b(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen"
    r"|(?:twen|thir|for|fif|six|seven|eigh|nine)ty|hundred|thousand|million|billion|half|twice)\b",
    re.IGNORECASE,
)
_JOINING = frozenset(
    {"a", "an", "and", "at", "by", "de", "for", "in", "of", "on", "or", "the", "von"}
)


@dataclass(frozen=True, kw_only=True)
class Slice:
    """The questions of one kind."""

    n: int
    arms: Mapping[str, Interval | None]
    """Mean score by arm; `None` where none of the questions is scored."""


def slices(run: Run, table: Floats, drawn: Bootstrap) -> dict[str, dict[str, Slice]]:
    """Return the scores of each arm by label and value; the largest slices come first.

    Labels with a single value or more than 60 are left out; of documents, the 40 with the most
    questions are shown.

    Args:
        run: Its questions are sliced.
        table: Scores, of shape (questions, arms); NaN where there is none.
        drawn: Of the documents of these questions.
    """
    lengths = _lengths(run.documents)
    labelled = [_labels(question, lengths) for question in run.questions]
    found = {}
    for label in dict.fromkeys(name for labels in labelled for name in labels):
        values = Counter(labels[label] for labels in labelled if label in labels)
        most = MOST_DOCUMENTS if label == "document" else None
        if len(values) > 1 and (most or len(values) <= MOST_VALUES):
            found[label] = {
                value: _slice(
                    [n for n, labels in enumerate(labelled) if labels.get(label) == value],
                    run.manifest.arms,
                    table,
                    drawn,
                )
                for value, _ in values.most_common(most)
            }
    return found


def answer_type(answers: Sequence[str]) -> str:
    """Return what kind of thing the preferred gold answer is, by its look."""
    if not answers:
        return "none"
    words = answers[0].split()
    if len(words) >= _SENTENCE_WORDS:
        return "sentence"
    if _DATE.search(answers[0]):
        return "date or time"
    if _NUMBER.search(answers[0]):
        return "number"
    if all(word[0].isupper() or word.lower() in _JOINING for word in words):
        return "name"
    return "phrase"


def _slice(chosen: list[int], arms: Sequence[str], table: Floats, drawn: Bootstrap) -> Slice:
    intervals = drawn.among(chosen).intervals(table[chosen])
    return Slice(n=len(chosen), arms=dict(zip(arms, intervals, strict=True)))


def _labels(question: QuestionRow, lengths: Mapping[str, str]) -> dict[str, str]:
    derived = {
        "answer type": answer_type(question.answers),
        "answerable": "yes" if question.answers else "no",
    }
    if asked_of := question.documents or question.about:
        document = asked_of[0]
        derived["document"] = document
        if document in lengths:
            derived["document length"] = lengths[document]
    return {**question.labels, **derived}


def _lengths(documents: Sequence[DocumentRow]) -> dict[str, str]:
    """Return a bin of length by document id; in words if the tokens of any are not known."""
    counted = all(document.tokens is not None for document in documents)
    unit = "tokens" if counted else "words"
    found = {}
    for document in documents:
        size = (
            document.tokens
            if document.tokens is not None and counted
            else len(document.text.split())
        )
        found[document.id] = _length(size, unit)
    return found


def _length(size: int, unit: str) -> str:
    low = 0
    for high in _LENGTHS:
        if size < high:
            return f"{low:,} to {high - 1:,} {unit}" if low else f"below {high} {unit}"
        low = high
    return f"{low:,} {unit} or more"
