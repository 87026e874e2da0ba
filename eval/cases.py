"""What a run asks: documents, and questions with what is known of their answers."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from hybridqa.errors import InputError
from hybridqa.types import Document


@dataclass(frozen=True, kw_only=True)
class Span:
    """Characters `start` to `end` of a document's text."""

    document: str
    """Its id."""
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Case:
    """One question."""

    id: str
    """Unique in its dataset."""
    question: str
    answers: tuple[str, ...]
    """Gold, the first is the preferred one; empty where no document says."""
    documents: tuple[str, ...]
    """Ids of those that answer it; empty where none does (or where nobody knows)."""
    about: tuple[str, ...] = ()
    """Where none answers it, ids of those that it was asked of, if that is known."""
    spans: tuple[Span, ...] = ()
    """Where the answer stands: any one of them in each of the documents is enough."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """By slice: `stability`, `citation_need`, `question_type` and whatever else the data says."""

    @property
    def answerable(self) -> bool:
        return bool(self.answers)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Documents and the questions about them."""

    name: str
    documents: tuple[Document, ...]
    """At least one; those that answer nothing are still searched."""
    cases: tuple[Case, ...]
    """At least one."""

    @property
    def sha256(self) -> str:
        """Of all that is asked and read, in this order."""
        digest = hashlib.sha256()
        for document in self.documents:
            told = [document.id, document.content_hash, str(document.modified_at)]
            digest.update(json.dumps(told).encode())
        for case in self.cases:
            digest.update(json.dumps(asdict(case), sort_keys=True).encode())
        return digest.hexdigest()


def choose(dataset: Dataset, limit: int | None = None, seed: int = 0) -> Dataset:
    """Choose questions: one per document in random order, a second round once all have one, etc.

    Unanswerable questions are spread evenly among the others. The same arguments always choose the
    same questions in the same order, and a smaller limit chooses the first of those that a larger
    one does. All documents stay, to be searched.

    Args:
        dataset: To choose from.
        limit: Most questions to choose; `None` chooses all.
        seed: Of the order of documents and of the questions of each.

    Raises:
        InputError: `limit` is below 1.
    """
    if limit is not None and limit < 1:
        raise InputError(f"The limit of questions must be at least 1, got {limit}.")
    rng = random.Random(seed)
    placed = []
    for answerable in (True, False):
        cases = _in_rounds([c for c in dataset.cases if c.answerable is answerable], rng)
        placed += [((n + 0.5) / len(cases), case.id, case) for n, case in enumerate(cases)]
    chosen = [case for _, _, case in sorted(placed, key=lambda each: each[:2])]
    return replace(dataset, cases=tuple(chosen[:limit]))


def _in_rounds(cases: Sequence[Case], rng: random.Random) -> list[Case]:
    """Return cases in random order, none of a document's before all documents had their turn."""
    queues: dict[tuple[str, ...], list[Case]] = {}
    for case in cases:
        queues.setdefault((case.documents or case.about or (case.id,))[:1], []).append(case)
    keys = rng.sample(sorted(queues), len(queues))
    for key in keys:
        rng.shuffle(queues[key])
    rounds = max(map(len, queues.values()), default=0)
    return [queues[key][n] for n in range(rounds) for key in keys if n < len(queues[key])]
