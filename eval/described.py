"""Write down what a run is made of: its models, documents, questions and adapters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from pydantic import TypeAdapter

from hybridqa.eval.arms import TRAINED, WEARING, ArmName, styled
from hybridqa.eval.bench import Bench, span_of, trained_by
from hybridqa.eval.cases import Dataset
from hybridqa.eval.machine import cache_bytes_per_token, machine, package_version
from hybridqa.eval.plan import Plan
from hybridqa.eval.rows import AdapterRow, DocumentRow, Manifest, QuestionRow, SpanRow
from hybridqa.eval.runs import FORMAT
from hybridqa.routing.policy import Policy
from hybridqa.types import AdapterRecord, Chunk
from hybridqa.wiring import HybridQA

EVIDENCE = (
    "the passages that hold a gold answer (where that is not known, the best hits in the gold "
    "documents), then the best hits of the index"
)
_PACKAGES = ("hybridqa", "torch", "transformers", "peft", "qdrant-edge-py", "ragas")


def manifest_of(qa: HybridQA, plan: Plan, dataset: Dataset) -> Manifest:
    """Return the manifest that a run begins with.

    Args:
        qa: What will answer.
        plan: What is asked.
        dataset: The questions chosen.
    """
    return Manifest(
        format=FORMAT,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        complete=False,
        command=plan.command,
        data=dataset.name,
        data_sha256=dataset.sha256,
        questions=len(dataset.cases),
        documents=len(dataset.documents),
        limit=plan.limit,
        seed=plan.seed,
        arms=tuple(map(str, styled(plan.arms))),
        metrics=plan.metrics,
        evidence=EVIDENCE,
        timed=plan.timed,
        policy=TypeAdapter(Policy).dump_python(qa.policy, mode="json", by_alias=True),
        config=asdict(qa.config),
        model=_models(qa, plan.arms),
        kv_bytes_per_token=cache_bytes_per_token(qa.base),
        versions={package: package_version(package) for package in _PACKAGES},
        machine=machine(str(qa.base.device)),
    )


def document_rows(qa: HybridQA, dataset: Dataset) -> Iterator[DocumentRow]:
    """Yield the documents with what ingest learned of them."""
    for document in dataset.documents:
        signals = qa.catalog.get(document.id).signals
        yield DocumentRow(
            id=document.id,
            title=document.title,
            source=document.source,
            text=document.text,
            content_hash=document.content_hash,
            volatility=signals.volatility.value,
            citation_need=signals.citation_need.value,
            tokens=len(qa.base.plain_ids(document.text)),
        )


def question_rows(qa: HybridQA, bench: Bench, dataset: Dataset) -> Iterator[QuestionRow]:
    """Yield the questions with the evidence that all their answers are judged by."""
    chunks = {document.id: qa.chunker.chunk(document) for document in dataset.documents}
    for case in dataset.cases:
        spans = tuple(SpanRow(**asdict(span)) for span in case.spans)
        gold = [span for id in case.documents for span in _holding(chunks[id], spans)]
        if case.documents and not gold:
            gold = [span_of(hit.chunk) for hit in bench.own_hits(case)]
        retrieved = tuple(span_of(hit.chunk) for hit in bench.retrieved(case))
        yield QuestionRow(
            id=case.id,
            question=case.question,
            answers=case.answers,
            documents=case.documents,
            about=case.about,
            spans=spans,
            labels=dict(case.labels),
            evidence=tuple(dict.fromkeys([*gold, *retrieved])),
            retrieved=retrieved,
        )


def adapter_row(record: AdapterRecord) -> AdapterRow:
    return AdapterRow(
        document=record.document_id,
        id=record.id,
        internalizer=record.internalizer,
        rank=record.rank,
        energy=record.energy,
        size_bytes=record.size_bytes,
        seconds=record.seconds,
    )


def _holding(chunks: Sequence[Chunk], spans: Sequence[SpanRow]) -> list[SpanRow]:
    """Return where a document's chunks stand that hold a gold span."""
    return [
        SpanRow(document=chunk.document_id, start=chunk.start, end=chunk.end)
        for chunk in chunks
        if any(
            span.document == chunk.document_id and span.start < chunk.end and chunk.start < span.end
            for span in spans
        )
    ]


def _models(qa: HybridQA, arms: Sequence[ArmName]) -> dict[str, str]:
    described = {
        "name": qa.base.name,
        "fingerprint": qa.base.fingerprint,
        "dtype": qa.config.model.dtype,
        "reader": qa.reader.id if qa.reader else "none",
        "embedder_fingerprint": qa.embedder.fingerprint,
    }
    internalizer = qa.internalizer() if WEARING & set(arms) - TRAINED.keys() else None
    if internalizer:
        described["internalizer"] = internalizer.name
        described["internalizer_fingerprint"] = internalizer.fingerprint
    for arm, name in TRAINED.items():
        if arm in arms:
            described[f"{name}_fingerprint"] = trained_by(qa, arm).fingerprint
    return described
