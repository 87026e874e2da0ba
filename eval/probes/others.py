"""What probes ask: questions that are not kept for measuring, and passages that do not answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hybridqa.eval.cases import Case, Dataset, choose
from hybridqa.types import Hit


def without_measured(dataset: Dataset, without: int, seed: int) -> Dataset:
    """Return the answerable questions that are not among those kept for measuring.

    Args:
        dataset: Of all questions.
        without: Questions that are kept: those that `eval run --limit` chooses.
        seed: Of that choice.
    """
    kept = {case.id for case in choose(dataset, without, seed).cases} if without else set()
    cases = [case for case in dataset.cases if case.answerable and case.id not in kept]
    return replace(dataset, cases=tuple(cases))


def not_answering(case: Case, hits: Sequence[Hit]) -> list[Hit]:
    """Return those passages of other documents that do not hold an answer's words."""
    return [
        hit
        for hit in hits
        if hit.chunk.document_id not in case.documents
        and not any(answer.lower() in hit.chunk.text.lower() for answer in case.answers)
    ]
