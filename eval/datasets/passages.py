"""Read question sets: passages with questions and gold answers, as JSON Lines.

One passage a line: `{"id", "source", "title", "context", "qas": [{"question", "answers": [...]}]}`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass as checked_dataclass

from hybridqa.errors import InputError
from hybridqa.eval.datasets.files import checked, read_lines
from hybridqa.eval.datasets.jsonl import Text

T = TypeVar("T")

_FORMAT = '{"id": ..., "context": ..., "qas": [{"question": ..., "answers": [...]}]}'
_SAMPLE_FORMAT = '{"id": ..., "question": ..., "answers": [...], "document": ..., ...}'
_STRICT = ConfigDict(strict=True, extra="ignore")


@checked_dataclass(frozen=True, kw_only=True, config=_STRICT)
class GoldQuestion:
    """A question with the answers that count as right; none if the passage does not say."""

    question: Text
    answers: tuple[str, ...]


@checked_dataclass(frozen=True, kw_only=True, config=_STRICT)
class Passage:
    """One line of a question set: a text and what is asked about it."""

    id: Text
    context: Text
    qas: tuple[GoldQuestion, ...]
    title: str = ""
    source: str = ""


@checked_dataclass(frozen=True, kw_only=True, config=_STRICT)
class SampleQuestion:
    """One line of `eval/sample/questions.jsonl`; see the README there."""

    id: Text
    question: Text
    answers: tuple[str, ...]
    document: str | None
    """File name below `eval/sample/documents`; `None` where no document answers."""
    start: Annotated[int, Field(ge=0)] | None
    """Offset of `answers[0]` in the document's text; `None` for HTML."""
    end: Annotated[int, Field(ge=0)] | None
    stability: Literal["stable", "volatile"]
    citation_needed: bool
    answerable: bool
    kind: str


@dataclass(frozen=True, kw_only=True)
class Case:
    """One question to ask, with the passage that answers it."""

    passage: Passage
    question: str
    answers: tuple[str, ...]
    """At least one, none of them blank."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What one run asks."""

    cases: tuple[Case, ...]
    skipped: int
    """Questions of the file that have no gold answer."""

    @property
    def passages(self) -> tuple[Passage, ...]:
        """Those asked about, each once, in the order of the cases."""
        return tuple({case.passage.id: case.passage for case in self.cases}.values())


def read_passages(path: str | Path) -> tuple[Passage, ...]:
    """Read a question set from a `.jsonl` or `.jsonl.gz` file.

    Raises:
        InputError: The file is missing, too large, empty, or a line is not a passage; names file,
            line and fault.
    """
    path = Path(path)
    passages: dict[str, Passage] = {}
    for number, passage in _records(Passage, path, _FORMAT):
        if passage.id in passages:
            raise InputError(
                f"`{path}`, line {number}: the id `{passage.id}` has been used before. "
                "Give every passage an id of its own."
            )
        passages[passage.id] = passage
    return tuple(passages.values())


def read_sample_questions(path: str | Path) -> tuple[SampleQuestion, ...]:
    """Read questions in the format of `eval/sample/questions.jsonl`.

    Raises:
        InputError: As `read_passages`.
    """
    return tuple(question for _, question in _records(SampleQuestion, Path(path), _SAMPLE_FORMAT))


def sample(passages: Sequence[Passage], limit: int | None = None, seed: int = 0) -> Sample:
    """Choose questions: one per passage in random order, a second round once all have one, etc.

    Questions without a gold answer are left out and counted. The same arguments always choose the
    same questions, and a smaller limit chooses the first of those that a larger one does.

    Args:
        passages: Of one question set.
        limit: Most questions to choose; `None` chooses all.
        seed: Of the order of passages and of the questions of each.

    Raises:
        InputError: `limit` is below 1, or no question has an answer.
    """
    if limit is not None and limit < 1:
        raise InputError(f"The limit of questions must be at least 1, got {limit}.")
    rng = random.Random(seed)
    skipped, queues = 0, []
    for passage in rng.sample(passages, len(passages)):
        cases = []
        for gold in passage.qas:
            answers = tuple(answer for answer in gold.answers if answer.strip())
            if answers:
                cases.append(Case(passage=passage, question=gold.question, answers=answers))
        skipped += len(passage.qas) - len(cases)
        rng.shuffle(cases)
        queues.append(cases)
    rounds = max(map(len, queues), default=0)
    chosen = [queue[n] for n in range(rounds) for queue in queues if n < len(queue)][:limit]
    if not chosen:
        raise InputError(
            f"None of the {skipped} questions of the {len(passages)} passages has a gold answer. "
            "Use a file whose questions have `answers`."
        )
    return Sample(cases=tuple(chosen), skipped=skipped)


def _records(kind: type[T], path: Path, form: str) -> Iterator[tuple[int, T]]:
    """Yield (line number, record)."""
    adapter, number = TypeAdapter(kind), 0
    for number, line in read_lines(path):
        yield number, checked(adapter, line, f"`{path}`, line {number}", form)
    if not number:
        raise InputError(f"`{path}` is empty. Each line must look like {form}.")
