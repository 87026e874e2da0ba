"""Internalize a document by training a LoRA on what the model itself answers with the text at hand.

Slow and faithful: the oracle that hypernetworks are measured against (Doc-to-LoRA, arXiv
2602.15902). The questions are the model's own, so nothing but the document is needed.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence

import torch

from hybridqa.errors import AdapterMismatchError, DocumentTooLongError, InternalizeError
from hybridqa.internalize.lessons import Lesson, teach
from hybridqa.internalize.self_questions import self_questions
from hybridqa.internalize.student import fresh, train, upper_linear_layers
from hybridqa.models.base import BaseModel
from hybridqa.models.generator import TorchGenerator
from hybridqa.protocols import Generator, Prompt
from hybridqa.stores.peft_folder import adapter_id, document_origin
from hybridqa.types import Adapter, Chunk, Document, Internalized, LoraLayer

_PROCEDURE = 1
"""Raised whenever other adapters come out of the same settings."""


class DistillationInternalizer:
    """An `Internalizer`: self-asked questions, the model's own answers, a few dozen steps."""

    name = "distillation"

    def __init__(
        self,
        generator: Generator,
        base: BaseModel,
        task_adapter: Adapter | None,
        rank: int,
        steps: int,
        questions: int,
        max_chunks: int,
        seed: int = 0,
        learning_rate: float = 1e-3,
    ) -> None:
        """Wire the pieces.

        Args:
            generator: Asks the questions and answers them; usually runs `base`.
            base: Teacher, student, and the model that will wear the adapters.
            task_adapter: The reader, worn by teacher and student; `None` if `base` can read.
            rank: Of the adapters.
            steps: Of the optimizer, 8 questions each.
            questions: That are asked about one document, at most.
            max_chunks: Longer documents are refused.
            seed: Chooses what is asked about, the first factors and the order of training.
            learning_rate: At its peak.

        Raises:
            AdapterMismatchError: The task adapter was made for another base model.
        """
        if task_adapter is not None and task_adapter.model_fingerprint != base.fingerprint:
            raise AdapterMismatchError(
                task_adapter.id, task_adapter.model_fingerprint, base.fingerprint
            )
        self._generator, self._base, self._task_adapter = generator, base, task_adapter
        self._rank, self._steps, self._questions = rank, steps, questions
        self._max_chunks, self._seed, self._learning_rate = max_chunks, seed, learning_rate
        self._worn = [] if task_adapter is None else [task_adapter]
        settings = [_PROCEDURE, rank, steps, questions, seed, learning_rate]
        origin = [base.fingerprint, generator.model_fingerprint, [a.id for a in self._worn]]
        self.fingerprint = hashlib.sha256(json.dumps([settings, origin]).encode()).hexdigest()

    def internalize(self, document: Document, chunks: Sequence[Chunk]) -> Internalized:
        """Return the adapter of a document; see `protocols.Internalizer`.

        Blocks for a minute or more; others can use the model meanwhile.
        """
        began = time.perf_counter()
        if len(chunks) > self._max_chunks:
            longest = max(len(self._base.plain_ids(chunk.text)) for chunk in chunks[:8])
            raise DocumentTooLongError(
                document.id, len(chunks) * longest, self._max_chunks * longest
            )
        lessons = own_lessons(
            self._base, self._generator, self._task_adapter, chunks, self._questions, self._seed
        )
        if not lessons:
            raise InternalizeError(
                f"No question about document `{document.id}` ({len(chunks)} chunks, "
                f"{len(document.text)} characters) survived: the model found no answer "
                "in the text to any question it asked. Ingest it with `--internalizer "
                "associative`, or with `none` to answer by retrieval."
            )
        paths = upper_linear_layers(self._base.model)
        layers = stored(
            train(
                self._base,
                self._worn,
                lessons,
                fresh(self._base, paths, self._rank, self._seed),
                steps=self._steps,
                learning_rate=self._learning_rate,
                seed=self._seed,
            )
        )
        origin = document_origin(document.id, document.content_hash)
        return Internalized(
            adapter=Adapter(
                adapter_id(layers, self._base.fingerprint, origin), layers, self._base.fingerprint
            ),
            task_adapter=self._task_adapter,
            rank=self._rank,
            energy=1.0,
            shares=((0, len(document.text)),),
            seconds=time.perf_counter() - began,
        )


def own_lessons(
    base: BaseModel,
    generator: Generator,
    reader: Adapter | None,
    chunks: Sequence[Chunk],
    count: int,
    seed: int,
) -> list[Lesson]:
    """Return what the model answers with a text at hand to questions that it asks itself.

    Args:
        base: Teacher and student.
        generator: Asks the questions and answers them.
        reader: Worn by the teacher; `None` if `base` can read.
        chunks: Of one document.
        count: Of the questions, at most; none may survive.
        seed: Chooses what is asked about.
    """
    # What counts is what the teacher answers, not what the question was meant to ask.
    questions = self_questions(generator, reader, chunks, count, seed, min_agreement=0.0)
    if not questions:
        return []
    ids, end = TorchGenerator(base).prompt_ids, int(base.tokenizer.eos_token_id)
    return teach(
        base,
        [] if reader is None else [reader],
        students=[ids(Prompt(question=q.question)) for q in questions],
        teachers=[
            ids(Prompt(question=q.question, passages=[chunks[q.chunk].text])) for q in questions
        ],
        answers=[[*base.plain_ids(q.answer), end] for q in questions],
    )


def stored(layers: Mapping[str, LoraLayer]) -> dict[str, LoraLayer]:
    """Return factors in bfloat16: half the bytes, and what the model computes in anyway."""
    return {
        path: LoraLayer(layer.down.to(torch.bfloat16).cpu(), layer.up.to(torch.bfloat16).cpu())
        for path, layer in layers.items()
    }
