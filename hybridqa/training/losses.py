"""What a batch teaches: the answers, where they stand, and what must not change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hybridqa.internalize.lessons import TOP
from hybridqa.training.batches import NOTHING, Batch
from hybridqa.training.config import LossConfig
from hybridqa.training.learner import Learner, Written

_MASKED = -1e4


@dataclass(frozen=True)
class Marks:
    """How a batch was answered, teacher-forced; shares of questions but for the losses."""

    loss: float
    """Mean cross-entropy of the answers' tokens."""
    first: float
    """First token right."""
    whole: float
    """All tokens right."""
    place: float = 0.0
    """The key before the answer ranks first among those of its passage, in the last layer."""
    span: float = 0.0
    """Loss of the keys."""
    foreign: float = 0.0
    """Divergence from the model without the update, on questions about other passages; nats."""


def learn(learner: Learner, batch: Batch, weights: LossConfig) -> tuple[Tensor, Marks]:
    """Return the loss of a batch, with gradients, and its marks."""
    written = learner.write(batch)
    states, asked = learner.ask(batch, learner.together(written, batch.worn))
    answers, marks = answer_loss(learner, batch, states, weights.first_token)
    span, place = span_loss(learner, batch, written, asked, weights.first_token)
    foreign = foreign_loss(learner, batch, states)
    total = answers + weights.span * span + weights.foreign * foreign
    if batch.shown is not None:
        total = total + weights.soft * soft_loss(learner, batch, batch.shown, states)
    told = Marks(
        *marks,
        place=place,
        span=float(span.detach()),
        foreign=float(foreign.detach()),
    )
    return total, told


def answer_loss(
    learner: Learner, batch: Batch, states: Tensor, first_token: float
) -> tuple[Tensor, tuple[float, float, float]]:
    """Return the weighted loss of the answers, and their plain loss, first token and whole."""
    chosen = (batch.labels != NOTHING) & ~batch.foreign
    logits, due = learner.logits(states[chosen]), batch.labels[chosen]
    losses = F.cross_entropy(logits, due, reduction="none")
    first = batch.first[chosen]
    weight = torch.where(first, first_token, 1.0)
    right = logits.argmax(-1) == due
    answer = first.cumsum(0) - 1
    wrong = torch.zeros(int(first.sum()), device=due.device).index_add_(0, answer, (~right).float())
    marks = (
        float(losses.detach().mean()),
        float(right[first].float().mean()),
        float((wrong == 0).float().mean()),
    )
    return (losses * weight).sum() / weight.sum(), marks


def span_loss(
    learner: Learner,
    batch: Batch,
    written: Written,
    asked: Sequence[Tensor],
    first_token: float,
) -> tuple[Tensor, float]:
    """Return the loss of finding answers' places among all tokens of all passages of the batch.

    Any occurrence of the answer in its passage counts. Second: how often the best key of the
    passage, for an answer's first token and by the last target layer, is the right one.
    """
    row, place = batch.lookups.T
    temperatures = learner.span_temperatures
    if not len(row) or not temperatures:
        return batch.labels.new_zeros((), dtype=torch.float), 0.0
    rows, tokens = batch.chunk_mask.shape
    dead = (batch.chunk_mask == 0).reshape(1, -1)
    own = torch.arange(rows * tokens, device=row.device)[None] // tokens == row[:, None]
    right = batch.found.repeat(1, rows) & own
    first = batch.first[row, place]
    weight = torch.where(first, first_token, 1.0)
    total = weight.new_zeros(())
    scores = total
    for n, inputs in enumerate(asked):
        keys = written[0][n].reshape(rows * tokens, -1).to(inputs.dtype)
        temperature = torch.exp(temperatures[n].float())
        scores = ((inputs[row, place] @ keys.T).float() * temperature).masked_fill(dead, _MASKED)
        found = scores.masked_fill(~right, _MASKED).logsumexp(-1) - scores.logsumexp(-1)
        total = total - (found * weight).sum() / weight.sum() / len(asked)
    best = scores.detach().masked_fill(~own, 2 * _MASKED).argmax(-1, keepdim=True)
    hit = right.gather(1, best)[first].float()
    return total, float(hit.mean()) if len(hit) else 0.0


def soft_loss(learner: Learner, batch: Batch, shown: Batch, states: Tensor) -> Tensor:
    """Return how far answers are from those of the model that has the passages in its prompts.

    The cross-entropy with its likeliest tokens, by their shares among themselves.

    Args:
        learner: Wears its teacher for the latter.
        batch: Without the passages.
        shown: The same questions, with them.
        states: Of `batch`.
    """
    with torch.no_grad():
        reading, _ = learner.ask(shown, None, learner.teacher)
        target = learner.logits(reading[(shown.labels != NOTHING) & ~shown.foreign])
        likeliest, tokens = target.topk(min(TOP, target.shape[-1]), -1)
        share = likeliest.softmax(-1)
    said = learner.logits(states[(batch.labels != NOTHING) & ~batch.foreign]).log_softmax(-1)
    return -(share * said.gather(-1, tokens)).sum(-1).mean()


def foreign_loss(learner: Learner, batch: Batch, states: Tensor) -> Tensor:
    """Return how far a passage's update changes answers to questions on others; KL in nats."""
    rows = batch.foreign.any(-1)
    if not rows.any():
        return states.new_zeros((), dtype=torch.float)
    kept: dict[str, Any] = {
        name: tensor[rows] if tensor.shape[:1] == rows.shape else tensor
        for name, tensor in vars(batch).items()
        if isinstance(tensor, Tensor)
    }
    alone = Batch(**kept)
    with torch.no_grad():
        without, _ = learner.ask(alone, None)
        target = learner.logits(without[alone.foreign]).log_softmax(-1)
    logits = learner.logits(states[rows][alone.foreign]).log_softmax(-1)
    return F.kl_div(logits, target, reduction="batchmean", log_target=True)
