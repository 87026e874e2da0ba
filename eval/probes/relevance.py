"""`hybridqa eval relevance`: is an adapter worn for the questions that its document bears on?

A document's own questions, those about other documents of the data and general ones are looked for
in what was kept of the document, as before an adapter is worn. Told are the shares that it would be
worn for, by the weights in `engines.prompts` and by weights that are fitted on half of the
documents: a logistic regression in which own questions count as much as all others together.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from hybridqa.config import Config
from hybridqa.engines.prompts import bearing
from hybridqa.errors import InputError
from hybridqa.eval.bench import Progress, scratch, silent
from hybridqa.eval.cases import Dataset
from hybridqa.eval.grid import Grid, percent
from hybridqa.eval.machine import machine
from hybridqa.eval.probes.fitting import logistic
from hybridqa.eval.probes.lab import at_least
from hybridqa.eval.probes.unrelated import sampled
from hybridqa.eval.probes.unrelated_report import Kind
from hybridqa.eval.statistics import Interval, mean_interval
from hybridqa.internalize.locating import relevance_of
from hybridqa.models.base import torch_device
from hybridqa.protocols import Look
from hybridqa.types import Document, Places
from hybridqa.wiring import HybridQA

_FEATURES = ("odds", "similarity", "bias")


@dataclass(frozen=True, kw_only=True)
class RelevancePlan:
    """What is asked."""

    documents: int = 100
    """Of each dataset; fewer where there are fewer."""
    questions: int = 4
    """Of each kind, for each document."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise `InputError` where something cannot be measured."""
        at_least("number of documents", self.documents, 2)
        at_least("number of questions", self.questions, 1)
        at_least("seed", self.seed, 0)


@dataclass(frozen=True, kw_only=True)
class Looked:
    """A question, looked for in a document."""

    data: str
    document: str
    kind: Kind
    fitted: bool
    """Whether the document is one of those that weights are fitted on."""
    likely: float
    """How likely it bears on the document, by the weights in use."""
    worn: bool
    """Whether the document's adapter would be worn for it."""
    odds: float
    """Log odds of the likeliest place."""
    similarity: float


@dataclass(frozen=True, kw_only=True)
class Share:
    """All questions of a kind about the documents of a dataset."""

    data: str
    kind: Kind
    questions: int
    worn: Interval
    """Share for which the adapter would be worn; drawn over documents."""
    refitted: float
    """The same by the weights that were fitted, of the documents they were not fitted on."""


@dataclass(frozen=True, kw_only=True)
class RelevanceReport:
    """What was measured, and what is needed to measure it again."""

    plan: RelevancePlan
    least: float
    """Probability from which on an adapter is worn."""
    weights: dict[str, float]
    """Fitted, by feature."""
    shares: Sequence[Share]
    rows: Sequence[Looked]
    about: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return what `hybridqa eval relevance --json` prints."""
        return {
            "plan": asdict(self.plan),
            "least": self.least,
            "weights": self.weights,
            "shares": [asdict(share) for share in self.shares],
            "rows": [asdict(row) for row in self.rows],
            **self.about,
        }


def run_relevance(
    config: Config,
    datasets: Sequence[Dataset],
    plan: RelevancePlan = RelevancePlan(),
    progress: Progress = silent,
    open_home: Callable[[Path, Config], HybridQA] = HybridQA,
) -> RelevanceReport:
    """Look for all kinds of questions, in a home that is removed afterwards.

    Args:
        config: Of the locator and the embedder.
        datasets: Each with questions that name the documents that answer them.
        plan: What is asked.
        progress: Told of every document.
        open_home: Opens a home directory; tests put fakes into it.

    Raises:
        InputError: There is no locator, or a dataset has too few documents with questions.
    """
    rows: list[Looked] = []
    with scratch(config, open_home) as qa:
        if qa.locator is None:
            raise InputError(
                "The config says `internalize: locator: null`, and what it keeps is what tells "
                "whether a document bears on a question. Set it to `embedded`, or to a locator."
            )
        least = qa.policy.thresholds.min_relevance
        about = {
            "locator": qa.locator.fingerprint,
            "embedder": qa.embedder.fingerprint,
            "machine": machine(str(torch_device(config.model.device))),
        }
        for dataset in datasets:
            rows += _looked(qa, dataset, plan, progress)
    weights = _fitted([row for row in rows if row.fitted])
    shares = [
        _share([row for row in rows if (row.data, row.kind) == key], key, weights, least, plan.seed)
        for key in dict.fromkeys((row.data, row.kind) for row in rows)
    ]
    return RelevanceReport(
        plan=plan,
        least=least,
        weights=dict(zip(_FEATURES, weights.tolist(), strict=True)),
        shares=shares,
        rows=rows,
        about=about,
    )


def grid(report: RelevanceReport) -> Grid:
    """Return a table of all kinds of questions."""
    fitted = ", ".join(f"{name} {value:.2f}" for name, value in report.weights.items())
    return Grid(
        title="For how many questions would an adapter be worn?",
        columns=("data", "questions about", "asked", "worn", "worn, weights fitted anew"),
        rows=[
            (
                each.data,
                each.kind,
                str(each.questions),
                percent(each.worn),
                f"{each.refitted:.0%}",
            )
            for each in report.shares
        ],
        caption=(
            f"`own` is the document itself: all are wanted there, and else none. Worn from a "
            f"probability of {report.least:g} on. Fitted anew on half of the documents, and "
            f"measured on the others: {fitted}. Seed {report.plan.seed}, locator "
            f"{report.about['locator'][:12]}. In brackets, 95 % bootstrap intervals over documents."
        ),
    )


def _looked(
    qa: HybridQA, data: Dataset, plan: RelevancePlan, progress: Progress
) -> Iterator[Looked]:
    assert qa.locator is not None
    asked_about = {id for case in data.cases if case.answerable for id in case.documents}
    documents = [document for document in data.documents if document.id in asked_about]
    if len(documents) < 2:
        raise InputError(
            f"`{data.name}` has {len(documents)} documents that questions are known to be about. "
            "Use data with at least 2."
        )
    rng = random.Random(plan.seed)
    chosen = rng.sample(documents, min(plan.documents, len(documents)))
    for n, document in enumerate(chosen):
        progress(data.name, n, len(chosen))
        asked = sampled(data, document, plan.questions, rng)
        questions = [case.question for _, case in asked]
        places, similarities = _kept(qa, document, questions)
        found = qa.locator.locate([Look(question, places) for question in questions])
        for (kind, _), its, similarity in zip(asked, found, similarities, strict=True):
            told = bearing(places, similarity, qa.policy.thresholds.min_relevance)
            likely = relevance_of(told, [its])
            yield Looked(
                data=data.name,
                document=document.id,
                kind=kind,
                fitted=n % 2 == 0,
                likely=likely,
                worn=likely >= told.least,
                odds=its[0].log_odds if its else -69.0,
                similarity=similarity,
            )
    progress(data.name, len(chosen), len(chosen))


def _kept(qa: HybridQA, document: Document, questions: Sequence[str]) -> tuple[Places, list[float]]:
    """Return what is kept of a document, and how similar its likest chunk is to each question."""
    assert qa.locator is not None
    chunks = qa.chunker.chunk(document)
    own = qa.embedder.embed([chunk.text for chunk in chunks])
    similar = (qa.embedder.embed(questions) @ own.T).max(-1)
    return qa.locator.keep(chunks), [float(each) for each in similar]


def _features(rows: Sequence[Looked]) -> Tensor:
    return torch.tensor([[row.odds, row.similarity, 1.0] for row in rows], dtype=torch.float64)


def _fitted(rows: Sequence[Looked]) -> Tensor:
    """Return the weights under which it is likeliest what bears on what, slightly shrunk."""
    kinds = [(row.data, row.kind) for row in rows]
    # As many of a document's own as of all others, whatever the number of either.
    counts = {key: kinds.count(key) * (1 if key[1] is Kind.OWN else 2) for key in set(kinds)}
    shares = torch.tensor([1 / counts[key] for key in kinds], dtype=torch.float64)
    bears = torch.tensor([float(row.kind is Kind.OWN) for row in rows], dtype=torch.float64)
    return logistic(_features(rows), bears, shares)


def _share(
    rows: Sequence[Looked], key: tuple[str, Kind], weights: Tensor, least: float, seed: int
) -> Share:
    others = [row for row in rows if not row.fitted]
    refitted = (_features(others) @ weights).sigmoid() >= least
    return Share(
        data=key[0],
        kind=key[1],
        questions=len(rows),
        worn=mean_interval([float(row.worn) for row in rows], [row.document for row in rows], seed),
        refitted=fmean(refitted.tolist()),
    )
