"""Values to what `--json` prints."""

from __future__ import annotations

import math
from dataclasses import asdict
from datetime import datetime
from typing import Any

from hybridqa.engines.ingest import Ingested
from hybridqa.types import AdapterRecord, Answer, Decision, DocumentRecord, Signal


def answer_dict(answer: Answer) -> dict[str, Any]:
    return {
        "question": answer.question,
        "answer": answer.text,
        "abstained": answer.abstained,
        "arm": answer.arm.value,
        "style": answer.style.value,
        "reasons": list(answer.reasons),
        "citations": [asdict(citation) for citation in answer.citations],
        "adapter": answer.adapter and _brief_adapter(answer.adapter),
        "confidence": round(answer.confidence, 4),
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "timings_ms": dict(answer.timings_ms),
    }


def decision_dict(question: str, decision: Decision) -> dict[str, Any]:
    return {
        "question": question,
        "arm": decision.arm.value,
        "reasons": list(decision.reasons),
        "documents": list(decision.document_ids),
        "adapter": decision.adapter and _brief_adapter(decision.adapter),
        "query": {
            "volatility": _signal(decision.query.volatility),
            "citation_need": _signal(decision.query.citation_need),
        },
    }


def adapter_dict(record: AdapterRecord) -> dict[str, Any]:
    return {name: _plain(value) for name, value in asdict(record).items()}


def document_dict(record: DocumentRecord, text: bool = False) -> dict[str, Any]:
    document = record.document
    shown = {
        "id": document.id,
        "title": document.title,
        "source": document.source,
        "content_hash": document.content_hash,
        "characters": len(document.text),
        "chunks": record.chunks,
        "modified_at": _plain(document.modified_at),
        "modified_by": document.modified_by,
        "revisions": len(document.revisions),
        "ingested_at": _plain(record.ingested_at),
        "first_ingested_at": _plain(record.first_ingested_at),
        "volatility": _signal(record.signals.volatility),
        "citation_need": _signal(record.signals.citation_need),
        # What LlamaIndex's nodes left there is for machines only.
        "metadata": {k: v for k, v in document.metadata.items() if not k.startswith("hybridqa_")},
    }
    return {**shown, "text": document.text} if text else shown


def ingested_dict(ingested: Ingested) -> dict[str, Any]:
    return {
        "id": ingested.record.document.id,
        "status": ingested.status.value,
        "chunks": ingested.record.chunks,
        "adapter": ingested.adapter and ingested.adapter.id,
        "energy": ingested.adapter and ingested.adapter.energy,
        "internalized": ingested.internalized,
        "retired": ingested.retired,
        "warning": ingested.warning,
        "seconds": round(ingested.seconds, 3),
    }


def _brief_adapter(record: AdapterRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "document_id": record.document_id,
        "energy": record.energy,
        "rank": record.rank,
        "internalizer": record.internalizer,
    }


def _signal(signal: Signal) -> dict[str, Any]:
    return {"value": round(signal.value, 4), "reasons": list(signal.reasons)}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
