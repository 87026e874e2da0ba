"""Measure what is asked for, one row after another."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version

import torch

from hybridqa.config import Config
from hybridqa.errors import HybridQAError, InputError
from hybridqa.eval.bench import Progress, scratch, silent
from hybridqa.eval.machine import machine
from hybridqa.eval.speed.answering import first_token
from hybridqa.eval.speed.batching import against_peft, mixed_adapters
from hybridqa.eval.speed.evaluating import dashboard, scoring_overhead
from hybridqa.eval.speed.internalizing import against_distillation, against_forward
from hybridqa.eval.speed.processes import demo_memory, import_time
from hybridqa.eval.speed.report import SpeedReport, SpeedRow
from hybridqa.eval.speed.storage import adapter_size, search_overhead
from hybridqa.eval.speed.workbench import Workbench

ROWS: Mapping[str, Callable[[Workbench], SpeedRow]] = {
    "import-time": import_time,
    "adapter-size": adapter_size,
    "search-overhead": search_overhead,
    "internalize-vs-forward": against_forward,
    "internalize-vs-distillation": against_distillation,
    "adapter-first-token": first_token,
    "mixed-batch": mixed_adapters,
    "mixed-batch-vs-peft": against_peft,
    "demo-memory": demo_memory,
    "scoring-overhead": scoring_overhead,
    "dashboard": dashboard,
}


def run_speed(
    config: Config,
    only: Sequence[str] = (),
    quick: bool = False,
    progress: Progress = silent,
    seed: int = 0,
) -> SpeedReport:
    """Measure speed and size, each as a ratio of two things timed side by side.

    Args:
        config: Model, checkpoints and limits; the home is a temporary one.
        only: Names of rows, see `ROWS`; empty measures all.
        quick: Small sizes and two repeats: to see that it runs.
        progress: Called with what is being done.
        seed: Of the made-up chunks.

    Raises:
        InputError: There is no row of that name.
        ModelError: The model or a checkpoint cannot be loaded.
    """
    for name in only:
        if name not in ROWS:
            raise InputError(f"There is no row `{name}` in the benchmark. Rows: {', '.join(ROWS)}.")
    began = time.perf_counter()
    chosen = [name for name in ROWS if not only or name in only]
    rows, skipped = [], {}
    with scratch(config) as qa:
        bench = Workbench(qa, quick, seed, progress)
        base = qa.base
        for n, name in enumerate(chosen):
            progress(name, n, len(chosen))
            try:
                rows.append(ROWS[name](bench))
            except HybridQAError as exc:
                skipped[name] = str(exc)
        model = {
            "name": base.name,
            "fingerprint": base.fingerprint,
            "dtype": str(base.dtype).removeprefix("torch."),
        }
        told = machine(str(base.device))
    versions = {package: version(package) for package in ("peft", "qdrant-edge-py")}
    return SpeedReport(
        rows=tuple(rows),
        skipped=skipped,
        quick=quick,
        seed=seed,
        model=model,
        machine={**told, **versions, "threads": torch.get_num_threads()},
        seconds=round(time.perf_counter() - began, 1),
    )
