"""`hybridqa eval unanswerable`: is nothing said where what is read does not answer?

Each question is asked twice under `retrieval`: with the passages that the index finds, and with the
most similar passages of other documents that do not hold its answer. An answer to the latter is
invented. What of both the engine gives, after its checks, is told beside what the model says; and
by what weights, fitted to these questions, the locator's log odds would tell one from the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hybridqa.config import Config
from hybridqa.engines.cite import cite_answer
from hybridqa.engines.follow import attempted, checked
from hybridqa.engines.read import Reading
from hybridqa.engines.stopwatch import Stopwatch
from hybridqa.errors import InputError
from hybridqa.eval.bench import Progress, scratch, silent
from hybridqa.eval.cases import Case, Dataset, choose
from hybridqa.eval.machine import machine
from hybridqa.eval.metrics.text import token_f1
from hybridqa.eval.probes.lab import Lab, Refusal
from hybridqa.eval.probes.others import not_answering, without_measured
from hybridqa.eval.probes.unanswerable_report import (
    Said,
    UnanswerablePlan,
    UnanswerableReport,
    fitted,
    outcome,
)
from hybridqa.eval.requests import reading_of
from hybridqa.protocols import Generation
from hybridqa.routing.policy import Policy
from hybridqa.types import Arm, Hit, Style
from hybridqa.wiring import HybridQA

_SEARCHED = 3
"""Times as many passages are searched as may be read, for some that do not answer."""


def run_unanswerable(
    config: Config,
    datasets: Sequence[Dataset],
    plan: UnanswerablePlan,
    progress: Progress = silent,
    open_home: Callable[[Path, Config], HybridQA] = HybridQA,
) -> UnanswerableReport:
    """Ask all questions, in homes that are removed afterwards; no adapter is made.

    Args:
        config: Of the models, and of the policy.
        datasets: Each with questions that name the documents that answer them.
        plan: What is asked.
        progress: Told of every step.
        open_home: Opens a home directory; tests put fakes into it.

    Raises:
        InputError: A dataset has no such question.
    """
    rows: list[Said] = []
    about: dict[str, Any] = {}
    for dataset in datasets:
        with scratch(config, open_home) as qa:
            rows += _asked(qa, dataset, plan, progress)
            about = {
                "silent_from": qa.policy.thresholds.silent_from,
                "model": {"name": qa.base.name, "fingerprint": qa.base.fingerprint},
                "locator": qa.locator.fingerprint if qa.locator else None,
                "machine": machine(str(qa.base.device)),
            }
    groups = dict.fromkeys((row.data, row.style) for row in rows)
    return UnanswerableReport(
        plan=plan,
        outcomes=[
            outcome([row for row in rows if (row.data, row.style) == key], plan.seed)
            for key in groups
        ],
        weights=fitted(rows, plan.absent),
        rows=rows,
        about=about,
    )


def _asked(
    qa: HybridQA, dataset: Dataset, plan: UnanswerablePlan, progress: Progress
) -> list[Said]:
    left = without_measured(dataset, plan.without, plan.seed)
    cases = [case for case in left.cases if case.documents]
    if not cases:
        raise InputError(
            f"The dataset `{dataset.name}` has no question left that names a document which "
            "answers it. Use data with more questions, or leave out fewer."
        )
    asked = choose(replace(left, cases=tuple(cases)), plan.limit, plan.seed).cases
    for n, document in enumerate(dataset.documents, 1):
        qa.ingest(document, "none")
        progress("index", n, len(dataset.documents))
    passages = [(case, found, hits) for case in asked for found, hits in _passages(qa, case)]
    _, readings = reading_of(qa)
    rows: list[Said] = []
    for n, style in enumerate(map(Style, plan.styles)):
        progress(f"{dataset.name}, by style", n, len(plan.styles))
        read = [
            readings.make(case.question, hits, {}, style, qa.policy.thresholds, None, Stopwatch())
            for case, _, hits in passages
        ]
        made = Lab(qa).ask([reading.prompt for reading in read])
        rows += [
            _said(dataset.name, case, style, found, reading, each, qa.policy)
            for (case, found, _), reading, each in zip(passages, read, made, strict=True)
        ]
    progress(f"{dataset.name}, by style", len(plan.styles), len(plan.styles))
    return rows


def _passages(qa: HybridQA, case: Case) -> list[tuple[bool, Sequence[Hit]]]:
    """Return what the index finds, and what of others' passages there is that does not answer."""
    count = qa.config.answer.hits
    found = qa.retriever.search(case.question, _SEARCHED * count)
    others = not_answering(case, found)[:count]
    return [(True, found[:count]), *([(False, others)] if others else [])]


def _said(
    data: str,
    case: Case,
    style: Style,
    found: bool,
    reading: Reading,
    made: Generation | Refusal,
    policy: Policy,
) -> Said:
    answer, given, relevance = "", False, None
    if not isinstance(made, Refusal):
        citation = cite_answer(made, [hit.chunk for hit in reading.hits], reading.hits)
        attempt = checked(attempted(Arm.RETRIEVAL, made, citation, 0.0), policy)
        answer = "" if attempt.abstained else attempt.text
        given, relevance = attempt.accepted, attempt.relevance
    return Said(
        data=data,
        question=case.id,
        document=case.documents[0],
        style=style,
        found=found,
        held=any(hit.chunk.document_id in case.documents for hit in reading.hits),
        answer=answer,
        f1=max(token_f1(answer, gold) for gold in case.answers) if answer else 0.0,
        given=given,
        relevance=relevance,
    )
