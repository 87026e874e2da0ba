"""What the page is given: each text once, answers as columns, offsets as JavaScript counts."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import product
from typing import Any, Generic, TypeVar

from hybridqa.errors import InputError
from hybridqa.eval.dashboard.comparison import changes, require_same_questions
from hybridqa.eval.rows import AnswerRow, QuestionRow, Run, ScoreRow, SpanRow
from hybridqa.eval.slices import answer_type

T = TypeVar("T", bound=Hashable)


def payload(
    run: Run, summary: Mapping[str, Any], against: tuple[Run, Mapping[str, Any]] | None
) -> dict[str, Any]:
    """Return the page's data as JSON values.

    Raises:
        InputError: The two runs asked different questions, or a run is damaged.
    """
    runs = [(run, summary)]
    if against is not None:
        require_same_questions(run, against[0])
        runs.append(against)
    tables = _Tables()
    places = _Places(run, tables)
    return {
        "questions": _columns([_question(row, places) for row in run.questions]),
        "runs": [_run(one, its, run.questions, tables) for one, its in runs],
        "change": changes(run, against[0]) if against else None,
        "texts": tables.texts.rows,
        "lists": tables.lists.rows,
        "documents": [
            dict(zip(("id", "title", "source", "text"), row, strict=True))
            for row in tables.documents.rows
        ],
    }


class _Numbers(Generic[T]):
    """Gives every value a number, equal values the same."""

    def __init__(self) -> None:
        self._numbers: dict[T, int] = {}

    def of(self, value: T) -> int:
        return self._numbers.setdefault(value, len(self._numbers))

    @property
    def rows(self) -> list[T]:
        return list(self._numbers)


class _Tables:
    """What is told once and named by number."""

    def __init__(self) -> None:
        self.texts = _Numbers[str]()
        self.lists = _Numbers[tuple[Any, ...]]()
        self.documents = _Numbers[tuple[str, str, str, str]]()
        """Id, title, source, text: two runs may know one document by two texts."""


class _Places:
    """Documents of one run, and spans of them, as the page names them."""

    def __init__(self, run: Run, tables: _Tables) -> None:
        self._numbers = tables.documents
        self._rows = {row.id: (row.id, row.title, row.source, row.text) for row in run.documents}
        self._astral = {row.id: _astral(row.text) for row in run.documents}

    def document(self, id: str) -> int:
        return self._numbers.of(self._rows.get(id, (id, id, "", "")))

    def span(self, document: str, start: int, end: int) -> tuple[int, int, int]:
        """Return the document's number and UTF-16 offsets."""
        before, within = (bisect_left(self._astral.get(document, ()), at) for at in (start, end))
        return self.document(document), start + before, end + within

    def spans(self, rows: Iterable[SpanRow]) -> list[tuple[int, int, int]]:
        return [self.span(row.document, row.start, row.end) for row in rows]


def _astral(text: str) -> list[int]:
    """Return where characters stand that JavaScript counts as two."""
    if text.isascii() or max(text) <= "\uffff":
        return []
    return [n for n, character in enumerate(text) if character > "\uffff"]


def _question(row: QuestionRow, places: _Places) -> dict[str, Any]:
    return {
        "id": row.id,
        "question": row.question,
        "answers": row.answers,
        "documents": [places.document(id) for id in row.documents],
        "spans": places.spans(row.spans),
        "labels": {**row.labels, "answer type": answer_type(row.answers)},
    }


def _run(
    run: Run, summary: Mapping[str, Any], order: Sequence[QuestionRow], tables: _Tables
) -> dict[str, Any]:
    scores = {(row.arm, row.question): row for row in run.scores}
    answers = {(row.arm, row.question): row for row in run.answers}
    if (
        not answers.keys()
        == scores.keys()
        == set(product(run.manifest.arms, (q.id for q in order)))
    ):
        raise InputError(
            f"The run `{run.path}` is damaged: some questions have no answer or no score under "
            "some arm, others two. Fetch it again, or run it again."
        )
    places = _Places(run, tables)
    metrics = [metric["name"] for metric in summary["metrics"]]
    return {
        "path": run.path,
        "manifest": asdict(run.manifest)
        | {"adapters": len(run.manifest.adapters), "warnings": len(run.manifest.warnings)},
        "summary": _rounded(summary),
        "answers": {
            arm: _columns([_answer(answers[arm, row.id], tables, places) for row in order])
            for arm in run.manifest.arms
        },
        "scores": {
            arm: _scores([scores[arm, row.id] for row in order], metrics)
            for arm in run.manifest.arms
        },
    }


def _answer(row: AnswerRow, tables: _Tables, places: _Places) -> dict[str, Any]:
    citations = [
        (
            *places.span(cited.document, cited.start, cited.end),
            _rounded(cited.score),
            cited.verified,
        )
        for cited in row.citations
    ]
    return {
        "text": tables.texts.of(row.answer),
        "error": row.error,
        "confidence": _rounded(row.confidence),
        "route": tables.texts.of(row.route),
        "reasons": tables.lists.of(tuple(map(tables.texts.of, row.reasons))),
        "citations": tables.lists.of(tuple(citations)),
        "contexts": tables.lists.of(tuple(places.spans(row.contexts))),
        "adapter": row.adapter and tables.texts.of(row.adapter[:12]),
        "tokens": tables.lists.of((row.prompt_tokens, row.completion_tokens)),
        "batch": row.batch,
        "timings": {stage: round(ms) for stage, ms in row.timings_ms.items()},
    }


def _scores(rows: Sequence[ScoreRow], metrics: Sequence[str]) -> dict[str, Any]:
    return {
        "values": {
            name: [
                None if (value := row.scores.get(name)) is None else round(1000 * value)
                for row in rows
            ]
            for name in metrics
        },
        "failures": {
            name: {n: row.failures[name] for n, row in enumerate(rows) if name in row.failures}
            for name in metrics
        },
    }


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Turn rows into columns, mappings within them too; a column of `None` alone is left out."""
    columns: dict[str, Any] = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        column = [row.get(key) for row in rows]
        if isinstance(column[0], Mapping):
            columns[key] = _columns(column)  # type: ignore[arg-type]
        elif any(value is not None for value in column):
            columns[key] = column
    return columns


def _rounded(value: Any) -> Any:
    """Return JSON values with 5 significant digits: more than is ever shown."""
    match value:
        case float():
            return float(f"{value:.5g}")
        case Mapping():
            return {key: _rounded(item) for key, item in value.items()}
        case list() | tuple():
            return [_rounded(item) for item in value]
    return value
