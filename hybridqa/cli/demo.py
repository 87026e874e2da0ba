"""The tour behind `hybridqa demo`: the sample documents taken in, then questions of every kind."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from hybridqa.config import Config
from hybridqa.engines.sync import Synced
from hybridqa.eval.cases import Case
from hybridqa.eval.datasets import load
from hybridqa.eval.machine import peak_memory_bytes
from hybridqa.eval.metrics import agrees
from hybridqa.serialize import answer_dict, ingested_dict
from hybridqa.types import Answer, Arm
from hybridqa.wiring import HybridQA

SAMPLE = Path(__file__).parent.parent / "eval" / "sample"
_PER_KIND = {"stable": 24, "citable": 4, "volatile": 4, "unanswerable": 2}
_SIDE_BY_SIDE = 4
"""Stable questions that are asked of every arm."""


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    synced: Synced
    asked: tuple[tuple[Case, Answer], ...]
    """As routed by the policy."""
    side_by_side: tuple[tuple[Case, tuple[Answer, ...]], ...]
    """The same question to every arm, in the order of `Arm`."""
    peak_memory_bytes: int


def run(home: Path | None, config: Config, advance: Callable[[str, int, int], None]) -> DemoResult:
    """Run the demo.

    Args:
        home: Where to keep it; `None` throws it away afterwards.
        config: The settings in force.
        advance: Called with label, done and total.
    """
    with (
        tempfile.TemporaryDirectory(prefix="hybridqa-demo-") as temporary,
        HybridQA(home or Path(temporary) / "home", config) as qa,
    ):
        synced = qa.ingest_files(
            [SAMPLE / "documents"],
            root=SAMPLE,
            progress=lambda done, total, path: advance(
                f"reading {path.name}" if path else "done", done, total
            ),
        )
        questions = _choose()
        asked = []
        for done, question in enumerate(questions):
            advance("answering", done, len(questions))
            asked.append((question, qa.ask(question.question)))
        side_by_side = []
        stable = [question for question in questions if _kind(question) == "stable"]
        for done, question in enumerate(stable[:_SIDE_BY_SIDE]):
            advance("asking every arm", done, _SIDE_BY_SIDE)
            side_by_side.append((question, tuple(qa.ask(question.question, arm) for arm in Arm)))
    return DemoResult(
        synced=synced,
        asked=tuple(asked),
        side_by_side=tuple(side_by_side),
        peak_memory_bytes=peak_memory_bytes(),
    )


def as_dict(result: DemoResult) -> dict[str, Any]:
    return {
        "documents": [ingested_dict(ingested) for ingested in result.synced.ingested],
        "answers": [
            {
                **answer_dict(answer),
                "gold": list(question.answers),
                "correct": is_right(question, answer),
            }
            for question, answer in result.asked
        ],
        "side_by_side": [
            [answer_dict(answer) for answer in by_arm] for _, by_arm in result.side_by_side
        ],
        "peak_memory_bytes": result.peak_memory_bytes,
    }


def is_right(question: Case, answer: Answer) -> bool:
    """Tell whether an answer says what is expected, or rightly says nothing."""
    if not question.answerable:
        return answer.abstained
    return agrees(answer.text, question.answers)


def render(console: Console, result: DemoResult) -> None:
    documents = Table("document", "chunks", "volatility", "citation need", "adapter", "s")
    for ingested in result.synced.ingested:
        record, adapter = ingested.record, ingested.adapter
        documents.add_row(
            record.document.id,
            str(record.chunks),
            f"{record.signals.volatility.value:.2f}",
            f"{record.signals.citation_need.value:.2f}",
            f"{adapter.id[:8]} rank {adapter.rank}, {adapter.size_bytes // 1024} KiB"
            if adapter
            else "none",
            f"{ingested.seconds:.1f}",
        )
    console.print(documents)
    answers = Table("question", "arm", "answer", "cited", "conf.", "ms")
    for question, answer in result.asked:
        cited = "\n".join(f"{c.document_id}\n[{c.start}:{c.end}]" for c in answer.citations)
        answers.add_row(
            _escaped(question.question),
            answer.arm.value,
            _marked(question, answer),
            _escaped(cited),
            f"{answer.confidence:.2f}",
            f"{answer.timings_ms['total']:.0f}",
        )
    console.print(answers)
    compared = Table(
        "question", *(arm.value for arm in Arm), title="The same question to every arm"
    )
    for question, by_arm in result.side_by_side:
        compared.add_row(_escaped(question.question), *(_marked(question, a) for a in by_arm))
    console.print(compared)
    arms = Counter(answer.arm.value for _, answer in result.asked)
    right = sum(is_right(question, answer) for question, answer in result.asked)
    used = ", ".join(f"{count} by {arm}" for arm, count in arms.most_common())
    console.print(
        f"{right} of {len(result.asked)} right (✓: what was expected, or rightly no answer); "
        f"{used}. Peak memory {result.peak_memory_bytes / 2**30:.2f} GiB."
    )
    console.print(
        "Why each took its arm: hybridqa demo --json. Your own documents: "
        "hybridqa ingest DIR, then hybridqa ask QUESTION."
    )


def _choose() -> list[Case]:
    """Take the first questions of each kind, in the order of the file."""
    chosen: list[Case] = []
    kinds: Counter[str] = Counter()
    for question in load(str(SAMPLE)).cases:
        kind = _kind(question)
        if kinds[kind] < _PER_KIND[kind]:
            kinds[kind] += 1
            chosen.append(question)
    return chosen


def _kind(question: Case) -> str:
    if not question.answerable:
        return "unanswerable"
    return (
        "citable" if question.labels["citation_need"] == "needed" else question.labels["stability"]
    )


def _marked(question: Case, answer: Answer) -> str:
    mark = "[green]✓[/green]" if is_right(question, answer) else "[red]✗[/red]"
    return f"{mark} {_escaped(answer.text or 'The documents do not say.')}"


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")
