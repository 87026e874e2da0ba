"""Sixteen requests in one batch: with one adapter, with sixteen, and with sixteen by stock PEFT."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from hybridqa.eval.speed.pairs import side_by_side, spread
from hybridqa.eval.speed.report import SpeedRow
from hybridqa.eval.speed.workbench import Workbench
from hybridqa.internalize.export import export_stack
from hybridqa.models.base import BaseModel
from hybridqa.models.generator import TorchGenerator
from hybridqa.protocols import Prompt
from hybridqa.types import Adapter

_REQUESTS = 16
_OUTPUT_TOKENS = 16
"""Of every answer: nothing ends one earlier, so that all do the same work."""


def mixed_adapters(bench: Workbench) -> SpeedRow:
    """Answer the same questions wearing one adapter, and each wearing its own."""
    generator = TorchGenerator(bench.qa.base, stop_tokens=())
    stacks = bench.stacks(_REQUESTS)
    mixed, single = _prompts(bench, stacks), _prompts(bench, [stacks[0]] * _REQUESTS)
    bench.progress("answering in batches", 0, 1)
    timings = side_by_side(
        {"one": lambda: generator.generate(single), "mixed": lambda: generator.generate(mixed)},
        bench.repeats(7),
    )
    tokens = _REQUESTS * _OUTPUT_TOKENS
    return SpeedRow(
        name="mixed-batch",
        description=f"throughput of {_REQUESTS} requests with {_REQUESTS} different adapters, "
        "relative to one adapter for all",
        **spread(timings.ratios("one", "mixed")),
        unit="x",
        target=0.6,
        at_least=True,
        details={
            "mixed_tokens_per_s": round(1e3 * tokens / timings.median_ms("mixed"), 2),
            "one_adapter_tokens_per_s": round(1e3 * tokens / timings.median_ms("one"), 2),
            "requests": _REQUESTS,
            "output_tokens_each": _OUTPUT_TOKENS,
            "stop_tokens": "none",
        },
    )


def against_peft(bench: Workbench) -> SpeedRow:
    """Answer the same mixed batch with PEFT's `adapter_names`, on a second copy of the model."""
    generator = TorchGenerator(bench.qa.base, stop_tokens=())
    requests = 4 if bench.quick else _REQUESTS
    stacks = bench.stacks(requests)
    prompts = _prompts(bench, stacks)
    bench.progress("loading PEFT", 0, 1)
    rows = [generator.prompt_ids(prompt) for prompt in prompts]
    compute = bench.qa.base.lock.run  # one thread for both: two would slow each other
    theirs = partial(compute, compute(lambda: _peft(bench, stacks, rows)))
    bench.progress("answering with PEFT", 0, 1)
    timings = side_by_side(
        {"ours": lambda: generator.generate(prompts), "peft": theirs}, bench.repeats(3)
    )
    ours = [list(generation.token_ids) for generation in generator.generate(prompts)]
    same = [
        sum(a == b for a, b in zip(mine, other, strict=True)) / _OUTPUT_TOKENS
        for mine, other in zip(ours, theirs(), strict=True)
    ]
    tokens = requests * _OUTPUT_TOKENS
    return SpeedRow(
        name="mixed-batch-vs-peft",
        description=f"throughput of {requests} requests with different adapters, relative to "
        "stock PEFT (`adapter_names`)",
        **spread(timings.ratios("peft", "ours")),
        unit="x",
        target=3.0,
        at_least=True,
        details={
            "tokens_per_s": round(1e3 * tokens / timings.median_ms("ours"), 2),
            "peft_tokens_per_s": round(1e3 * tokens / timings.median_ms("peft"), 2),
            "tokens_that_agree": round(statistics.mean(same), 4),
            "answers_that_agree": round(statistics.mean(share == 1.0 for share in same), 4),
            "requests": requests,
            "output_tokens_each": _OUTPUT_TOKENS,
            "threads": torch.get_num_threads(),
        },
    )


def _prompts(bench: Workbench, stacks: Sequence[tuple[Adapter, ...]]) -> list[Prompt]:
    return [
        Prompt(question=question, adapters=stack, max_tokens=_OUTPUT_TOKENS)
        for question, stack in zip(bench.questions, stacks, strict=False)
    ]


def _peft(
    bench: Workbench, stacks: Sequence[tuple[Adapter, ...]], rows: Sequence[list[int]]
) -> Callable[[], list[list[int]]]:
    """Return a call that decodes greedily, each row with its stack as one PEFT adapter."""
    from peft import PeftModel
    from transformers import GenerationConfig

    config = bench.qa.config.model
    base = BaseModel.from_checkpoint(config.name, config.dtype, str(bench.qa.base.device))
    names = [f"adapter_{n}" for n in range(len(stacks))]
    with tempfile.TemporaryDirectory(prefix="hybridqa-peft-") as folder:
        for name, stack in zip(names, stacks, strict=True):
            export_stack(Path(folder) / name, stack, base.name)
        model = PeftModel.from_pretrained(
            base.model,
            f"{folder}/{names[0]}",
            adapter_name=names[0],
        )
        for name in names[1:]:
            model.load_adapter(f"{folder}/{name}", adapter_name=name)
    model.eval()
    longest = max(map(len, rows))
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows], device=base.device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    # No end of sequence, as on our side.
    base.model.generation_config = GenerationConfig(
        do_sample=False, max_new_tokens=_OUTPUT_TOKENS, pad_token_id=0, use_cache=True
    )

    def call() -> list[list[int]]:
        with torch.inference_mode():
            found = model.generate(
                input_ids=ids, attention_mask=mask.to(base.device), adapter_names=names
            )
        new: list[list[int]] = found[:, longest:].tolist()
        return new

    return call
