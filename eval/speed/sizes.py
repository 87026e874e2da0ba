"""`hybridqa bench internalize`: what taking in a document costs, from short to very long.

Of each length: the time and the memory of internalizing it, relative to one pass of the base model
over the same chunks; the same of reading it whole, as in a prompt; and the bytes of the adapter
beside those of the text's keys and values. On one short document also the time of distillation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from hybridqa.config import Config
from hybridqa.errors import DocumentTooLongError, HybridQAError, InputError, InternalizeError
from hybridqa.eval.bench import Progress, scratch, silent
from hybridqa.eval.machine import cache_bytes_per_token
from hybridqa.eval.probes.lab import Lab, OpenHome, at_least, configured, no_internalizer
from hybridqa.eval.speed.footprint import Footprint, Unmeasured, measured_apart
from hybridqa.eval.speed.pairs import Timings, side_by_side, timed
from hybridqa.eval.speed.passes import Pass, Passes
from hybridqa.eval.speed.sizes_report import Distilled, Kept, Size, SizesReport, Spread
from hybridqa.eval.speed.storage import adapter_bytes
from hybridqa.types import Internalized
from hybridqa.wiring import HybridQA

TOKENS = (256, 1024, 4096, 16_384, 32_768, 65_536, 131_072)

Apart = Callable[[Config, Pass, int, int], Footprint | Unmeasured]
"""Measures the memory of a pass over so many tokens, by a seed; in a process of its own."""


@dataclass(frozen=True, kw_only=True)
class SizesPlan:
    """What is measured."""

    tokens: Sequence[int] = TOKENS
    repeats: int = 3
    """Rounds that count; one more warms up."""
    distil_tokens: int = 256
    """Of the document that is distilled too, once, which takes minutes; 0 leaves it out."""
    memory: bool = True
    """Whether to measure it: each pass starts a process."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise `InputError` where something cannot be measured."""
        if not self.tokens:
            raise InputError("There is nothing to measure. Name at least one length.")
        for tokens in self.tokens:
            at_least("length of a document, in tokens,", tokens, 1)
        at_least("number of repeats", self.repeats, 1)
        at_least("length of the document to distil, in tokens,", self.distil_tokens, 0)
        at_least("seed", self.seed, 0)


def run_sizes(
    config: Config,
    plan: SizesPlan = SizesPlan(),
    progress: Progress = silent,
    open_home: OpenHome = HybridQA,
    apart: Apart = measured_apart,
) -> SizesReport:
    """Measure all lengths; leave the machine alone meanwhile.

    Args:
        config: Of the model and the internalizer; the home is a temporary one.
        plan: What is measured.
        progress: Told of every step.
        open_home: Opens a home directory; tests put fakes into it.
        apart: Measures memory; tests put fakes here.

    Raises:
        InputError: The config has no internalizer.
        ModelError: The model or a checkpoint cannot be loaded.
    """
    began = time.perf_counter()
    if config.internalize.internalizer == "none":
        raise no_internalizer()
    # First, while nothing else holds memory.
    memory = {tokens: _memory(config, plan, tokens, apart, progress) for tokens in plan.tokens}
    with scratch(config, open_home) as qa:
        per_token = cache_bytes_per_token(qa.base)
        sizes = []
        for n, tokens in enumerate(plan.tokens):
            progress(f"time, {tokens:,} tokens", n, len(plan.tokens))
            sizes.append(_size(qa, plan, tokens, per_token, memory[tokens]))
        distilled = None
        if plan.distil_tokens:
            progress("distilling a document, minutes", 0, 1)
            distilled = _distilled(qa, plan)
        about: dict[str, Any] = Lab(qa).about()
    about["machine"]["threads"] = torch.get_num_threads()
    return SizesReport(
        sizes=sizes,
        distilled=distilled,
        repeats=plan.repeats,
        seed=plan.seed,
        kv_bytes_per_token=per_token,
        about=about,
        seconds=round(time.perf_counter() - began, 1),
    )


def _memory(
    config: Config, plan: SizesPlan, tokens: int, apart: Apart, progress: Progress
) -> dict[Pass, Footprint | Unmeasured]:
    found: dict[Pass, Footprint | Unmeasured] = {}
    for n, which in enumerate(Pass if plan.memory else ()):
        progress(f"memory, {tokens:,} tokens, {which}", n, len(Pass))
        found[which] = apart(config, which, tokens, plan.seed)
        first = found[which]
        if which is Pass.INTERNALIZE and isinstance(first, Unmeasured) and first.too_long:
            break  # nothing to compare with
    return found


def _size(
    qa: HybridQA,
    plan: SizesPlan,
    tokens: int,
    per_token: int,
    memory: dict[Pass, Footprint | Unmeasured],
) -> Size:
    passes = Passes(qa, tokens, plan.seed)
    made: list[Internalized] = []
    reason, timings = None, None
    try:
        timings = side_by_side(_calls(passes, made), plan.repeats)
    except (DocumentTooLongError, InternalizeError, torch.OutOfMemoryError) as exc:
        reason = str(exc).splitlines()[0]
    return Size(
        tokens=tokens,
        chunks=len(passes.chunks),
        kv_bytes=per_token * tokens,
        kept=_kept(made[-1]) if made else None,
        ms={name: timings.median_ms(name) for name in timings.seconds} if timings else {},
        time_ratio=_ratio(timings, Pass.FORWARD),
        time_ratio_to_prefill=_ratio(timings, Pass.PREFILL),
        memory={str(k): v for k, v in memory.items() if isinstance(v, Footprint)},
        memory_reasons={str(k): v.reason for k, v in memory.items() if isinstance(v, Unmeasured)},
        reason=reason,
    )


def _calls(passes: Passes, made: list[Internalized]) -> dict[str, Callable[[], object]]:
    """Return the passes that can be made, by name; the last adapter made is put into `made`."""

    def internalize() -> None:
        made[:] = [passes.internalized()]

    calls: dict[str, Callable[[], object]] = {
        Pass.INTERNALIZE: internalize,
        Pass.FORWARD: passes.prepared(Pass.FORWARD),
    }
    with suppress(DocumentTooLongError):  # beyond the window
        calls[Pass.PREFILL] = passes.prepared(Pass.PREFILL)
    return calls


def _ratio(timings: Timings | None, to: Pass) -> Spread | None:
    if timings is None or to not in timings.seconds:
        return None
    return Spread.of(timings.ratios(Pass.INTERNALIZE, to))


def _kept(made: Internalized) -> Kept:
    return Kept(
        adapter_bytes=adapter_bytes(made.adapter),
        rank=made.rank,
        shares=len(made.shares),
        energy=made.energy,
    )


def _distilled(qa: HybridQA, plan: SizesPlan) -> Distilled:
    """Internalize one document both ways; the instant way before and after the slow one."""
    passes, settings = Passes(qa, plan.distil_tokens, plan.seed), qa.config.internalize
    internalizer, slow = configured(qa), qa.distillation
    instantly = partial(internalizer.internalize, passes.document, passes.chunks)
    told = Distilled(
        tokens=plan.distil_tokens,
        chunks=len(passes.chunks),
        steps=settings.distillation_steps,
        questions=settings.distillation_questions,
    )
    try:
        instantly()
        instant = [timed(instantly) for _ in range(plan.repeats)]
        seconds = timed(lambda: slow.internalize(passes.document, passes.chunks))
        instant += [timed(instantly) for _ in range(plan.repeats)]
    except HybridQAError as exc:
        return told.failed(str(exc))
    return told.done(seconds, instant)
