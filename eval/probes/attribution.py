"""`hybridqa eval attribution`: does what is cited for an adapter's answer begin in the gold answer?

A document's adapter is asked, worn whole, and its answer cited in several ways:

- `keys`: the place that carried the answer most, whatever its text says;
- `keys+text`: of the places where the document says the answer, that which carried it most; none
  where it does not say it;
- `keys-unworn`: as `keys`, with the activations of the model that does not wear the adapter;
- `places`: where the locator finds the question answered in the places that the adapter holds: what
  the engine quotes;
- `text`: what the engine does: the first passage found for the question that says the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from hybridqa.config import Config
from hybridqa.engines.cite import find_support
from hybridqa.errors import InputError
from hybridqa.eval.bench import Progress, scratch, silent
from hybridqa.eval.calibration import calibrate
from hybridqa.eval.cases import Case, Dataset, choose
from hybridqa.eval.grid import Grid, percent
from hybridqa.eval.probes.lab import Lab, Made, OpenHome, Refusal, answer_of, at_least, told
from hybridqa.eval.statistics import Interval, wilson
from hybridqa.internalize.associative import AssociativeInternalizer
from hybridqa.internalize.attribution import Attribution, attribute
from hybridqa.protocols import Look
from hybridqa.wiring import HybridQA


class Way(StrEnum):
    """How a place is found."""

    KEYS = "keys"
    KEYS_TEXT = "keys+text"
    KEYS_UNWORN = "keys-unworn"
    PLACES = "places"
    TEXT = "text"


@dataclass(frozen=True, kw_only=True)
class AttributionRow:
    """One question, cited in one way."""

    question: str
    document: str
    way: Way
    text: str
    """The question's."""
    answer: str
    start: int | None
    end: int | None
    """Characters of the document; `None` where nothing is cited."""
    hit: bool
    """Whether what is cited begins in a gold span."""
    confidence: float
    """Of `text`, the answer's own; else the place's share."""


@dataclass(frozen=True, kw_only=True)
class AttributionReport:
    """What was cited, and what is needed to measure it again."""

    rows: Sequence[AttributionRow]
    left_out: int
    """Questions of which nobody knows where they are answered."""
    refused: int
    """Questions of documents of which there is no adapter."""
    data: str
    seed: int
    about: dict[str, Any]

    def of(self, way: Way) -> list[AttributionRow]:
        """Return the rows of one way."""
        return [row for row in self.rows if row.way is way]

    def as_dict(self) -> dict[str, Any]:
        """Return what `hybridqa eval attribution --json` prints."""
        return {
            "data": self.data,
            "seed": self.seed,
            "left_out": self.left_out,
            "refused": self.refused,
            "ways": {str(way): _Figures.of(self.of(way)).as_dict() for way in Way},
            "rows": [asdict(row) for row in self.rows],
            **self.about,
        }


def run_attribution(
    config: Config,
    dataset: Dataset,
    limit: int | None = None,
    seed: int = 0,
    progress: Progress = silent,
    open_home: OpenHome = HybridQA,
) -> AttributionReport:
    """Ask documents' adapters, and find where the answers came from; in a home that is removed.

    Args:
        config: Of the model and of an associative internalizer.
        dataset: Questions without a gold span are left out.
        limit: Most questions; `None` asks all.
        seed: Of their choice.
        progress: Told of every question.
        open_home: Opens a home directory; tests put fakes into it.

    Raises:
        InputError: The limit cannot be used, no question has a gold span, or there is no
            associative internalizer.
    """
    at_least("seed", seed, 0)
    if limit is not None:
        at_least("limit of questions", limit, 1)
    cases = choose(dataset, limit, seed).cases
    asked = [case for case in cases if case.spans]
    if not asked:
        raise InputError(
            f"No question of `{dataset.name}` says where it is answered. Give questions whose "
            "answers stand in their documents."
        )
    with scratch(config, open_home) as qa:
        lab = Lab(qa)
        name = lab.internalizer.name
        internalizer = qa.associative if name == "associative" else None
        if not isinstance(internalizer, AssociativeInternalizer):
            raise InputError(
                f"The internalizer is `{name}`, and only an associative one has keys. Set "
                "`internalize: internalizer: associative`."
            )
        made = _made(lab, dataset, asked)
        rows: list[AttributionRow] = []
        answered = [case for case in asked if isinstance(made[case.spans[0].document], Made)]
        for n, case in enumerate(answered):
            progress("questions", n, len(answered))
            document = made[case.spans[0].document]
            assert isinstance(document, Made)
            rows += _cited(lab, internalizer, case, document)
        progress("questions", len(answered), len(answered))
        about = lab.about()
    return AttributionReport(
        rows=rows,
        left_out=len(cases) - len(asked),
        refused=len(asked) - len(answered),
        data=dataset.name,
        seed=seed,
        about=about,
    )


def _made(lab: Lab, dataset: Dataset, cases: Sequence[Case]) -> dict[str, Made | Refusal]:
    wanted = {case.spans[0].document for case in cases}
    found = {}
    for document in dataset.documents:
        if document.id in wanted:
            found[document.id] = lab.internalize(document)
            lab.qa.ingestor.ingest(document, None)
    return found


def _cited(
    lab: Lab, internalizer: AssociativeInternalizer, case: Case, made: Made
) -> list[AttributionRow]:
    prompt = lab.wearing(made, case.question)
    (generation,) = lab.ask([prompt])
    if isinstance(generation, Refusal):
        return []
    document, answer = made.document, answer_of(generation)
    chunks = lab.qa.chunker.chunk(document)
    asked = [prompt, lab.bare(case.question, made)]
    places, unworn = attribute(lab.qa.base, internalizer, asked, answer, chunks)
    hits = lab.qa.retriever.search(case.question, len(chunks), [document.id])
    support = find_support(answer, hits) if answer else None
    said = [place for place in places if answer and _same(document.text, place, answer)]
    cited: dict[Way, tuple[int, int, float] | None] = {
        Way.KEYS: _first(places),
        Way.KEYS_TEXT: _first(said),
        Way.KEYS_UNWORN: _first(unworn),
        Way.PLACES: _located(lab, case.question, made),
        Way.TEXT: (support.start, support.end, generation.confidence) if support else None,
    }
    gold = [(span.start, span.end) for span in case.spans if span.document == document.id]
    return [
        AttributionRow(
            question=case.id,
            document=document.id,
            way=way,
            text=case.question,
            answer=answer,
            start=place[0] if place else None,
            end=place[1] if place else None,
            hit=place is not None and any(a <= place[0] < b for a, b in gold),
            confidence=place[2] if place else 0.0,
        )
        for way, place in cited.items()
    ]


def _located(lab: Lab, question: str, made: Made) -> tuple[int, int, float] | None:
    locator, places = lab.qa.locator, made.internalized.adapter.places
    if locator is None or places is None:
        return None
    (found,) = locator.locate([Look(question, places)])
    return (found[0].start, found[0].end, found[0].share) if found else None


def _first(places: Sequence[Attribution]) -> tuple[int, int, float] | None:
    return (places[0].start, places[0].end, places[0].score) if places else None


def _same(text: str, place: Attribution, answer: str) -> bool:
    return text[place.start : place.end].casefold().split() == answer.casefold().split()


@dataclass(frozen=True, kw_only=True)
class _Figures:
    """What one way found."""

    questions: int
    cited: int
    hit: Interval | None
    """Share of all questions."""
    hit_of_cited: Interval | None
    aurc: float | None

    @classmethod
    def of(cls, rows: Sequence[AttributionRow]) -> _Figures:
        cited = [row for row in rows if row.start is not None]
        hits = sum(row.hit for row in cited)
        confidence = np.array([row.confidence for row in cited])
        return cls(
            questions=len(rows),
            cited=len(cited),
            hit=wilson(hits, len(rows)) if rows else None,
            hit_of_cited=wilson(hits, len(cited)) if cited else None,
            aurc=calibrate(confidence, np.array([float(row.hit) for row in cited])).aurc,
        )

    def as_dict(self) -> dict[str, Any]:
        return {
            **vars(self),
            "hit": self.hit.as_dict() if self.hit else None,
            "hit_of_cited": self.hit_of_cited.as_dict() if self.hit_of_cited else None,
        }


def grid(report: AttributionReport) -> Grid:
    """Return a table of all ways."""
    figures = {way: _Figures.of(report.of(way)) for way in Way}
    rows = [
        (
            str(way),
            percent(found.hit),
            str(found.cited),
            percent(found.hit_of_cited),
            "-" if found.aurc is None else f"{found.aurc:.3f}",
        )
        for way, found in figures.items()
    ]
    count = figures[Way.KEYS].questions
    return Grid(
        title=f"Attribution: {count} questions of {report.data}, asked of their document's adapter",
        columns=("way", "begins in the gold span", "cited", "of those cited", "AURC"),
        rows=rows,
        caption=(
            f"{report.left_out} questions without a gold span and {report.refused} without an "
            "adapter are left out. AURC: area under the risk-coverage curve of what is cited, the "
            f"smaller the better. Seed {report.seed}; {told(report.about)}. In brackets, Wilson's "
            "95 % intervals."
        ),
    )
