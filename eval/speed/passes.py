"""One document three ways: internalized, read chunk by chunk, read whole as in a prompt."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from enum import StrEnum

import torch

from hybridqa.errors import DocumentTooLongError
from hybridqa.eval.filler import Filler
from hybridqa.eval.probes.lab import configured
from hybridqa.models.base import BaseModel
from hybridqa.models.padding import padded
from hybridqa.types import Chunk, Document, Internalized
from hybridqa.wiring import HybridQA

FORWARD_TOKENS = 2048
"""Of the chunks that the base model reads at once."""


class Pass(StrEnum):
    """What is done with a document."""

    INTERNALIZE = "internalize"
    FORWARD = "forward"
    """The base model alone reads the same chunks, `FORWARD_TOKENS` at a time, without predicting
    or keeping anything."""
    PREFILL = "prefill"
    """The base model alone reads all of it in one piece, and keeps keys and values."""


class Passes:
    """A document of some length, cut up once."""

    def __init__(self, qa: HybridQA, tokens: int, seed: int) -> None:
        """Make up the document.

        Args:
            qa: Its models are used; nothing is ingested.
            tokens: Of the document.
            seed: Of the choice of its paragraphs.
        """
        self._qa, self.tokens = qa, tokens
        text = Filler(qa.base).text(tokens, random.Random(f"passes {seed} {tokens}"))
        self.document = Document(id=f"{tokens}-tokens", text=text, title="", source="speed")
        self.chunks: list[Chunk] = qa.chunker.chunk(self.document)

    def prepared(self, which: Pass) -> Callable[[], object]:
        """Return the pass as a call; models are loaded and tokens are laid out before it.

        Raises:
            InputError: There is no internalizer.
            DocumentTooLongError: The document is beyond the model's window (`PREFILL` only).
        """
        base = self._qa.base
        if which is Pass.INTERNALIZE:
            configured(self._qa)
            return self.internalized
        if which is Pass.FORWARD:
            sequences = [base.plain_ids(chunk.text) for chunk in self.chunks]
            size = max(1, FORWARD_TOKENS // max(map(len, sequences)))
            batches = [
                padded(sequences[n : n + size], base.device) for n in range(0, len(sequences), size)
            ]
            return lambda: _forward_all(base, batches)
        ids = base.plain_ids(self.document.text)
        window = int(getattr(base.model.config, "max_position_embeddings", 1 << 30))
        if len(ids) > window:
            raise DocumentTooLongError(self.document.id, len(ids), window)
        return lambda: _prefill(base, ids)

    def internalized(self) -> Internalized:
        """Internalize the document."""
        return configured(self._qa).internalize(self.document, self.chunks)


def _forward_all(base: BaseModel, batches: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
    # Without the head over the vocabulary, which would copy its weights once for each row of a
    # batch: neither its time nor its memory is needed to read.
    @torch.inference_mode()
    def read() -> None:
        for ids, mask in batches:
            base.model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)

    base.lock.run(read)


def _prefill(base: BaseModel, ids: list[int]) -> None:
    @torch.inference_mode()
    def read() -> None:
        rows = torch.tensor([ids], device=base.device)
        base.model(input_ids=rows, use_cache=True, logits_to_keep=1)

    base.lock.run(read)
