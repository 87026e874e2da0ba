"""Internalize a document by training a LoRA on what the model itself answers with the text at hand.

Slow and faithful: the oracle that hypernetworks are measured against (Doc-to-LoRA, arXiv
2602.15902). The questions are the model's own, so nothing but the document is needed.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import time
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from hybridqa.errors import DocumentTooLongError, InternalizeError
from hybridqa.internalize.lessons import Lesson, loss, teach
from hybridqa.internalize.self_questions import SelfQuestion, self_questions
from hybridqa.models.base import BaseModel
from hybridqa.models.capture import decoder_layers
from hybridqa.models.generator import TorchGenerator
from hybridqa.protocols import Prompt
from hybridqa.stores.peft_folder import adapter_id, document_origin
from hybridqa.types import Adapter, Chunk, Document, Internalized, LoraLayer

_BATCH = 8
_WARMUP = 0.1
"""Share of the steps in which the learning rate rises."""
_MODULES = ("down_proj",)
_VERSION = 1
"""Raised when the procedure changes, so that fingerprints tell old adapters from new ones."""


class DistillationInternalizer:
    """An `Internalizer`: self-asked questions, the model's own answers, a few dozen steps."""

    name = "distillation"

    def __init__(
        self,
        generator: TorchGenerator,
        base: BaseModel,
        task_adapter: Adapter | None,
        rank: int,
        steps: int,
        questions: int,
        max_chunks: int,
        seed: int = 0,
        learning_rate: float = 3e-3,
        modules: Sequence[str] = _MODULES,
        min_agreement: float = 0.6,
    ) -> None:
        self._generator, self._base, self._task_adapter = generator, base, task_adapter
        self._rank, self._steps, self._questions = rank, steps, questions
        self._max_chunks, self._seed, self._learning_rate = max_chunks, seed, learning_rate
        self._modules, self._min_agreement = modules, min_agreement

    def internalize(self, document: Document, chunks: Sequence[Chunk]) -> Internalized:
        began = time.perf_counter()
        questions = self_questions(
            self._generator,
            self._task_adapter,
            chunks,
            self._questions,
            self._seed,
            self._min_agreement,
        )
        lessons = self._lessons(chunks, questions)
        layers = self._train(lessons)
        layers = {
            p: LoraLayer(l.down.detach().bfloat16(), l.up.detach().bfloat16())
            for p, l in layers.items()
        }
        origin = document_origin(document.id, document.content_hash)
        return Internalized(
            adapter=Adapter(
                adapter_id(layers, self._base.fingerprint, origin), layers, self._base.fingerprint
            ),
            task_adapter=self._task_adapter,
            rank=self._rank,
            energy=1.0,
            chunks=len(chunks),
            seconds=time.perf_counter() - began,
        )

    def _lessons(self, chunks: Sequence[Chunk], questions: Sequence[SelfQuestion]) -> list[Lesson]:
        tokenizer, generator = self._base.tokenizer, self._generator
        end = int(tokenizer.eos_token_id)
        answers = [
            [*tokenizer(q.answer, add_special_tokens=False)["input_ids"], end] for q in questions
        ]
        students = [generator.prompt_ids(Prompt(question=q.question)) for q in questions]
        teachers = [
            generator.prompt_ids(Prompt(question=q.question, passages=[chunks[q.chunk].text]))
            for q in questions
        ]
        return teach(self._base, self._worn(), students, teachers, answers)

    def _worn(self) -> list[Adapter]:
        return [] if self._task_adapter is None else [self._task_adapter]

    def _paths(self) -> list[str]:
        blocks = decoder_layers(self._base.model)
        first = blocks[len(blocks) // 2]
        names = {id(m): n for n, m in self._base.model.named_modules()}
        return [
            names[id(m)]
            for b in blocks[len(blocks) // 2 :]
            for n, m in b.named_modules()
            if isinstance(m, nn.Linear) and n.split(".")[-1] in self._modules
        ]

    def _train(self, lessons):
        rng = torch.Generator().manual_seed(self._seed)
        layers = {}
        for path in self._paths():
            w = self._base.model.get_submodule(path).weight
            down = torch.randn(self._rank, w.shape[1], generator=rng) / math.sqrt(w.shape[1])
            layers[path] = LoraLayer(
                down.to(w.device).requires_grad_(),
                torch.zeros(w.shape[0], self._rank, device=w.device, requires_grad=True),
            )
        student = Adapter("in training", layers, self._base.fingerprint)
        factors = [f for l in layers.values() for f in (l.down, l.up)]
        opt = torch.optim.AdamW(
            factors, lr=self._learning_rate, weight_decay=0.0, betas=(0.9, 0.98)
        )
        order = random.Random(self._seed)
        queue = []
        self.log = []
        for step in range(self._steps):
            fr = step / self._steps
            for g in opt.param_groups:
                g["lr"] = (
                    self._learning_rate
                    * min(1, (step + 1) / (0.1 * self._steps))
                    * (0.5 * (1 + math.cos(math.pi * fr)))
                )
            if len(queue) < _BATCH:
                queue += order.sample(range(len(lessons)), len(lessons))
            batch, queue = queue[:_BATCH], queue[_BATCH:]
            value = loss(self._base, [*self._worn(), student], [lessons[n] for n in batch])
            value.backward()
            nn.utils.clip_grad_norm_(factors, 1.0)
            opt.step()
            opt.zero_grad()
            self.log.append(float(value))
        return layers
