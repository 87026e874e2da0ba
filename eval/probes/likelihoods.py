"""What the model makes of given tokens, with and without adapters: nothing is generated."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from hybridqa.models.base import BaseModel
from hybridqa.models.generator import TorchGenerator
from hybridqa.models.lora import stack, worn
from hybridqa.protocols import Prompt
from hybridqa.types import Adapter


def divergence(
    generator: TorchGenerator, prompt: Prompt, other: Prompt, answer: Sequence[int]
) -> float:
    """Return the mean KL divergence, in nats, of what comes next after one prompt from another.

    Args:
        generator: Runs the model.
        prompt: Whose distribution is taken for true.
        other: Whose distribution is to be near it.
        answer: Tokens, at least one, which both are given; the mean is over their places.

    Raises:
        QuestionError: A prompt exceeds the model's context.
    """
    rows = generator.rows([prompt, other])
    for row in rows:
        row.prompt += answer

    def compute() -> float:
        logprobs = generator.batch(rows).read(keep=len(answer) + 1)[:, :-1]
        true, near = logprobs[0], logprobs[1]
        return float((true.exp() * (true - near)).sum(-1).mean())

    return generator.turns.run(compute)


def surprise(base: BaseModel, text: str, adapters: Sequence[Adapter]) -> tuple[float, int]:
    """Return the sum of a text's negative log-likelihoods, in nats, and of how many tokens.

    The first token is given, so a text needs two.
    """
    ids = base.plain_ids(text)

    def compute() -> float:
        rows = torch.tensor([ids], device=base.device)
        with torch.inference_mode(), worn(base, stack(base.model, [adapters])) as model:
            logits = model(input_ids=rows, use_cache=False).logits[0, :-1].float()
            return float(F.cross_entropy(logits, rows[0, 1:], reduction="sum"))

    return (base.lock.run(compute), len(ids) - 1) if len(ids) > 1 else (0.0, 0)
