"""How long taking in a document takes, against distillation and against reading it once."""

from __future__ import annotations

import torch

from hybridqa.eval.speed.pairs import side_by_side, spread, timed
from hybridqa.eval.speed.report import SpeedRow
from hybridqa.eval.speed.workbench import Workbench
from hybridqa.models.base import BaseModel
from hybridqa.models.padding import padded


def against_distillation(bench: Workbench) -> SpeedRow:
    """Internalize one document both ways; distillation takes minutes and is run once."""

    def instantly() -> object:
        return bench.internalizer.internalize(bench.document, bench.chunks)

    def by_distillation() -> object:
        return bench.qa.distillation.internalize(bench.document, bench.chunks)

    bench.progress("distilling a document, minutes", 0, 1)
    settings = bench.qa.config.internalize
    instantly()
    rounds = bench.repeats(5)
    instant = [timed(instantly) for _ in range(rounds)]
    distilled = timed(by_distillation)
    instant += [timed(instantly) for _ in range(rounds)]  # before and after: side by side
    return SpeedRow(
        name="internalize-vs-distillation",
        description=f"taking in {_size(bench)} is faster than by context distillation",
        **spread([distilled / seconds for seconds in instant]),
        unit="x",
        target=50.0,
        at_least=True,
        details={
            "associative_s": round(sorted(instant)[len(instant) // 2], 4),
            "distillation_s": round(distilled, 2),
            "distillation_runs": 1,
            "distillation_steps": settings.distillation_steps,
            "distillation_questions": settings.distillation_questions,
            "chunks": len(bench.chunks),
        },
    )


def against_forward(bench: Workbench) -> SpeedRow:
    """Internalize a document, and run the bare model over the same tokens.

    The target is for the tokens in one piece, as they would stand in a prompt.
    """
    base, sequences = bench.qa.base, _sequences(bench)
    whole = padded([[token for sequence in sequences for token in sequence]], base.device)
    pieces = padded(sequences, base.device)
    bench.progress("internalizing", 0, 1)
    timings = side_by_side(
        {
            "internalize": lambda: bench.internalizer.internalize(bench.document, bench.chunks),
            "forward": lambda: _forward(base, *whole),
            "forward_chunks": lambda: _forward(base, *pieces),
        },
        bench.repeats(9),
    )
    return SpeedRow(
        name="internalize-vs-forward",
        description=f"taking in {_size(bench)}, in forward passes of the base model over it",
        **spread(timings.ratios("internalize", "forward")),
        unit="x",
        target=2.0,
        at_least=False,
        details={
            "denominator": "one prefill of all tokens in one piece, logits of the last one only",
            "ratio_to_the_batch_of_chunks": round(
                timings.ratio("internalize", "forward_chunks"), 3
            ),
            "internalize_ms": timings.median_ms("internalize"),
            "forward_ms": timings.median_ms("forward"),
            "forward_of_the_batch_of_chunks_ms": timings.median_ms("forward_chunks"),
            "tokens": whole[0].numel(),
            "chunks": len(sequences),
        },
    )


def _size(bench: Workbench) -> str:
    return f"a document of {'300' if bench.quick else '1,000'} tokens"


def _sequences(bench: Workbench) -> list[list[int]]:
    tokenizer = bench.qa.base.tokenizer
    return [tokenizer(c.text, add_special_tokens=False)["input_ids"] for c in bench.chunks]


def _forward(base: BaseModel, ids: torch.Tensor, mask: torch.Tensor) -> None:
    @torch.inference_mode()
    def read() -> None:
        base.model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=1)

    base.lock.run(read)
