"""Measure the service against the engine in process, alone and under load."""

from __future__ import annotations

import itertools
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import torch

from hybridqa.config import Config
from hybridqa.eval.bench import Progress, silent
from hybridqa.eval.datasets import load
from hybridqa.eval.filler import SAMPLE
from hybridqa.eval.machine import machine
from hybridqa.eval.serving.ceiling import ceiling
from hybridqa.eval.serving.process import Asked, Load, Running, ask, drive, running, take_in
from hybridqa.eval.speed.pairs import spread
from hybridqa.eval.speed.report import Detail, SpeedReport, SpeedRow
from hybridqa.types import Document
from hybridqa.wiring import HybridQA, Models

CLIENTS = 16
_ROUNDS = 3
_EACH = 3
"""Questions about each document, of those that are asked over HTTP and in process."""
_WARM_S = 60.0
"""Of a soak, until memory counts: caches fill meanwhile."""


@dataclass(frozen=True)
class _Corpus:
    documents: Sequence[Document]
    questions: Mapping[str, Sequence[str]]
    """By document, in a random order; none of them twice."""

    def few(self) -> list[Asked]:
        """Return the first questions about each document."""
        return [(d, q) for d, questions in self.questions.items() for q in questions[:_EACH]]


def run_serving(
    config: Config,
    minutes: float = 10.0,
    quick: bool = False,
    progress: Progress = silent,
    seed: int = 0,
) -> SpeedReport:
    """Start the service on the sample documents, and ask.

    Args:
        config: Model, checkpoints and limits, those of the service included.
        minutes: Of the soak: sixteen clients ask while documents change all the time. 0 omits it.
        quick: Few questions: to see that it runs.
        progress: Called with what is being done.
        seed: Of the order of questions.

    Raises:
        ModelError: The model or a checkpoint cannot be loaded.
        HybridQAError: The service does not start.
    """
    began = time.perf_counter()
    corpus = _corpus(seed, quick)
    with tempfile.TemporaryDirectory(prefix="hybridqa-serving-") as folder:
        settings = Path(folder, "config.yaml")
        settings.write_text(_as_yaml(config), encoding="utf-8")
        progress("one process a core", 0, 1)
        most = ceiling(settings, corpus.documents, corpus.few())
        with running(Path(folder, "served"), settings) as service:
            progress("taking in documents", 0, 1)
            with service.client() as client:
                take_in(client, corpus.documents)
            rows = [_overhead(config, Path(folder, "in-process"), service, corpus, progress)]
            rows += _throughput(service, corpus, most, progress)
            if minutes:
                rows += _soak(service, corpus, minutes * 60, progress, seed)
            model = _model(service)
    return SpeedReport(
        rows=tuple(rows),
        skipped={},
        quick=quick,
        seed=seed,
        model={**model, "dtype": config.model.dtype},
        machine={
            **machine("cuda" if torch.cuda.is_available() else "cpu"),
            **{package: version(package) for package in ("fastapi", "uvicorn", "qdrant-edge-py")},
            "threads": torch.get_num_threads(),
        },
        seconds=round(time.perf_counter() - began, 1),
    )


def _overhead(
    config: Config, home: Path, service: Running, corpus: _Corpus, progress: Progress
) -> SpeedRow:
    """Ask the same questions over HTTP and in this process, by turns."""
    models = Models(config, config.serve.max_batch)
    asked = corpus.few()
    seconds: dict[str, list[float]] = {"http": [], "in process": []}
    try:
        with HybridQA(home, config, models) as qa, service.client() as client:
            for document in corpus.documents:
                qa.ingest(document)

            def over_http(one: Asked) -> None:
                ask(client, one)

            def in_process(one: Asked) -> None:
                qa.ask(one[1], document_ids=[one[0]])

            calls = {"http": over_http, "in process": in_process}
            for n, one in enumerate([asked[0], *asked]):  # the first wakes both up
                progress("asking over HTTP and in process", n, len(asked) + 1)
                for name in sorted(calls, reverse=bool(n % 2)):
                    began = time.perf_counter()
                    calls[name](one)
                    if n:
                        seconds[name].append(time.perf_counter() - began)
    finally:
        models.close()
    pairs = zip(seconds["http"], seconds["in process"], strict=True)
    ratios = sorted(http / inside for http, inside in pairs)
    quarter = len(ratios) // 4
    return SpeedRow(
        name="service-overhead",
        description="one client's question over HTTP / in process (median of questions, quartiles)",
        measured=statistics.median(ratios),
        low=ratios[quarter],
        high=ratios[-quarter - 1],
        unit="x",
        target=1.1,
        at_least=False,
        details={
            "questions": len(ratios),
            "http_ms": round(1e3 * statistics.median(seconds["http"]), 1),
            "in_process_ms": round(1e3 * statistics.median(seconds["in process"]), 1),
        },
    )


def _throughput(
    service: Running, corpus: _Corpus, most: float, progress: Progress
) -> list[SpeedRow]:
    """Ask by one client and by sixteen, by turns; `most` is what `ceiling` says can be gained.

    Questions differ: one that the model must read for takes ten times as long as one whose answer
    is located. So each half of them is asked once by one client and once by sixteen.
    """
    gains, tails = [], []
    details: dict[str, Detail] = {}
    each = max(1, (min(map(len, corpus.questions.values())) - 1) // 2)
    halves = [
        [[(d, q) for q in asked[1 + n * each :][:each]] for d, asked in corpus.questions.items()]
        for n in range(2)
    ]
    for n in range(_ROUNDS):
        one, many = Load(), Load()
        for turn in range(2):
            progress("one client, then sixteen", 2 * n + turn, 2 * _ROUNDS)
            alone, together = halves[turn], halves[1 - turn]
            one.add(drive(service, [itertools.chain.from_iterable(alone)], lambda: False))
            many.add(drive(service, [iter(asked) for asked in together], lambda: False))
        gain = many.per_second / one.per_second
        gains.append(gain)
        p50, p95 = statistics.median(one.seconds), _percentile(many.seconds, 95)
        tails.append(p95 / (p50 * CLIENTS / gain))
        details = {
            "questions_each": len(one.seconds),
            "failed": len(one.failed) + len(many.failed),
            "p50_one_ms": round(1e3 * p50, 1),
            "p50_sixteen_ms": round(1e3 * statistics.median(many.seconds), 1),
            "p95_sixteen_ms": round(1e3 * p95, 1),
            "per_second_one": round(one.per_second, 3),
            "per_second_sixteen": round(many.per_second, 3),
            "process_a_core": round(most, 3),
        }
    return [
        SpeedRow(
            name="throughput",
            description=f"answers per second, {CLIENTS} clients on {len(corpus.questions)} "
            "documents / one",
            **spread(gains),
            unit="x",
            target=2.0,
            at_least=True,
            details=details,
        ),
        SpeedRow(
            name="tail",
            description=f"p95 of {CLIENTS} clients / (p50 of one x {CLIENTS} / gain)",
            **spread(tails),
            unit="x",
            target=3.0,
            at_least=False,
            details={},
        ),
    ]


def _soak(
    service: Running, corpus: _Corpus, seconds: float, progress: Progress, seed: int
) -> list[SpeedRow]:
    """Let sixteen clients ask for a while, and documents change meanwhile."""
    began = time.monotonic()
    over = threading.Event()
    memory: list[tuple[float, int]] = []
    changes = 0

    def watch() -> None:
        while not over.wait(5):
            held = service.memory_bytes()
            if held is not None:
                memory.append((time.monotonic() - began, held))

    def ingest() -> None:
        nonlocal changes
        with service.client() as client:
            while not over.is_set():
                document = corpus.documents[changes % len(corpus.documents)]
                text = f"{document.text}\n\nRevision {changes}."
                take_in(client, [replace(document, text=text)])
                changes += 1

    def asked(number: int) -> Iterator[Asked]:
        shuffled = random.Random(seed * 1000 + number)
        mine = corpus.documents[number % len(corpus.documents)].id
        while True:
            progress("soak", int(time.monotonic() - began), int(seconds))
            yield mine, shuffled.choice(corpus.questions[mine])

    beside = [threading.Thread(target=target) for target in (watch, ingest)]
    for thread in beside:
        thread.start()
    try:
        load: Load = drive(
            service,
            [asked(number) for number in range(CLIENTS)],
            lambda: time.monotonic() - began > seconds,
        )
    finally:
        over.set()
        for thread in beside:
            thread.join()
    after = [held for at, held in memory if at >= min(_WARM_S, seconds / 2)]
    third = max(1, len(after) // 3)
    first, last = statistics.fmean(after[:third]), statistics.fmean(after[-third:])
    return [
        SpeedRow(
            name="soak-lost",
            description=f"questions without an answer in {seconds / 60:.3g} minutes, "
            f"{CLIENTS} clients, ingestion beside",
            measured=len(load.failed),
            low=len(load.failed),
            high=len(load.failed),
            unit="questions",
            target=0,
            at_least=False,
            details={
                "answered": len(load.seconds),
                "documents_changed": changes,
                "p50_ms": round(1e3 * statistics.median(load.seconds), 1),
                "p95_ms": round(1e3 * _percentile(load.seconds, 95), 1),
                "first_failure": load.failed[0] if load.failed else None,
            },
        ),
        SpeedRow(
            name="soak-memory",
            description="memory of the service, last third of the soak / first, after a warm-up",
            measured=last / first,
            low=last / first,
            high=last / first,
            unit="x",
            target=1.05,
            at_least=False,
            details={
                "first_gb": round(first / 1e9, 3),
                "last_gb": round(last / 1e9, 3),
                "peak_gb": round(max(after) / 1e9, 3),
            },
        ),
    ]


def _corpus(seed: int, quick: bool) -> _Corpus:
    data = load(str(SAMPLE))
    questions: dict[str, list[str]] = {}
    for case in data.cases:
        if case.answerable and case.documents:
            questions.setdefault(case.documents[0], []).append(case.question)
    shuffled = random.Random(seed)
    for asked in questions.values():
        shuffled.shuffle(asked)
    documents = [document for document in data.documents if document.id in questions]
    if quick:
        documents = documents[:4]
        questions = {d.id: questions[d.id][:3] for d in documents}
    return _Corpus(documents, {d.id: questions[d.id] for d in documents})


def _model(service: Running) -> Mapping[str, str]:
    with service.client() as client:
        me = client.get("v1/me").raise_for_status().json()
    return {"name": str(me["model"])}


def _percentile(values: Sequence[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def _as_yaml(config: Config) -> str:
    import yaml
    from pydantic import TypeAdapter

    return yaml.safe_dump(TypeAdapter(Config).dump_python(config, mode="json"))
