"""What a student learns from a teacher that sees the text: soft targets over answer tokens.

Teacher and student are the same frozen model; the teacher has the passage in its prompt, the
student has not. Context distillation: Askell et al. 2021 (arXiv 2112.00861), Snell et al. 2022
(arXiv 2209.15189).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from hybridqa.models.base import BaseModel
from hybridqa.models.lora import stack, worn
from hybridqa.models.padding import padded
from hybridqa.types import Adapter

TOP = 16
"""Tokens of the teacher's distribution that are kept per position, as in Doc-to-LoRA."""


@dataclass(frozen=True, eq=False)
class Lesson:
    """One answer and what the teacher thought at each of its tokens."""

    prompt: Sequence[int]
    """The question alone: what the student sees before the answer."""
    answer: Sequence[int]
    """End of sequence included."""
    tokens: Tensor
    """The teacher's likeliest tokens, int64 of shape (answer, TOP)."""
    probabilities: Tensor
    """Of these tokens, scaled to sum to 1; float32 of shape (answer, TOP)."""


def teach(
    base: BaseModel,
    adapters: Sequence[Adapter],
    students: Sequence[Sequence[int]],
    teachers: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    batch_size: int = 8,
) -> list[Lesson]:
    """Read the teacher's distribution over every answer.

    Args:
        base: The frozen model.
        adapters: Worn by the teacher.
        students: Prompts without the passage.
        teachers: The same prompts with the passage.
        answers: Forced; end of sequence included.
        batch_size: Prompts that run together.
    """
    lessons: list[Lesson] = []
    top = min(TOP, int(base.model.config.vocab_size))

    def read(part: slice) -> list[Lesson]:
        with torch.no_grad():
            logits = answer_logits(base, adapters, teachers[part], answers[part])
        read = []
        for prompt, answer, scores in zip(students[part], answers[part], logits, strict=True):
            probabilities, tokens = scores.softmax(-1).topk(top)
            probabilities = probabilities / probabilities.sum(-1, keepdim=True)
            read.append(Lesson(prompt, answer, tokens, probabilities))
        return read

    for start in range(0, len(answers), batch_size):
        lessons += base.lock.run(partial(read, slice(start, start + batch_size)))
    return lessons


def loss(base: BaseModel, adapters: Sequence[Adapter], lessons: Sequence[Lesson]) -> Tensor:
    """Return the cross-entropy of the student to the teacher, a mean over all answer tokens.

    Gradients flow to the factors of `adapters` that require them.
    """
    logits = answer_logits(base, adapters, [x.prompt for x in lessons], [x.answer for x in lessons])
    tokens = torch.cat([lesson.tokens for lesson in lessons])
    probabilities = torch.cat([lesson.probabilities for lesson in lessons])
    logprobs = torch.cat(logits).log_softmax(-1).gather(-1, tokens)
    return -(probabilities * logprobs).sum(-1).mean()


def answer_logits(
    base: BaseModel,
    adapters: Sequence[Adapter],
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
) -> list[Tensor]:
    """Return the logits that predict each answer's tokens, float32 of shape (answer, vocabulary).

    The model is locked for this one forward pass.
    """
    rows = [[*prompt, *answer[:-1]] for prompt, answer in zip(prompts, answers, strict=True)]
    ids, mask = padded(rows, base.device, left=True)  # all answers end in the last column
    stacked = stack(base.model, [list(adapters)] * len(rows))
    keep = max(map(len, answers))
    with worn(base, stacked) as model:
        logits: Tensor = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
            use_cache=False,
            logits_to_keep=keep,
        ).logits
    assert logits.shape[:2] == (len(rows), keep)
    return [logits[n, keep - len(answer) :].float() for n, answer in enumerate(answers)]
