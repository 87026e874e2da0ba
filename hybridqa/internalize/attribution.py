"""Where in its document an associative adapter found an answer.

A question reads an adapter by how much its activations resemble the document's keys, so the keys
tell which tokens carried what was said: phrase retrieval (Lee et al. 2021, arXiv 2012.12624) from
inside the weights. The keys are made again from the text, by one forward pass: the adapter holds
them no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from hybridqa.internalize.associative import AssociativeInternalizer
from hybridqa.models.base import BaseModel
from hybridqa.models.capture import read
from hybridqa.models.generator import TorchGenerator
from hybridqa.protocols import Prompt
from hybridqa.types import Chunk


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """A place in a document, and how far an answer's first token came from there."""

    start: int
    end: int
    """Characters of the document: as many tokens as the answer has, but for space around them."""
    score: float
    """Share of all places in the document, in [0, 1]."""


def attribute(
    base: BaseModel,
    internalizer: AssociativeInternalizer,
    prompts: Sequence[Prompt],
    answer: str,
    chunks: Sequence[Chunk],
) -> list[list[Attribution]]:
    """Return the places that carried an answer, best first, one for each of a document's tokens.

    Of each prompt its own: the text is read but once.

    Only where the answer begins is asked for: what follows, it mostly reads on from there.

    Args:
        base: The model that answered.
        internalizer: That made the adapter.
        prompts: What it was asked, with the adapters it wore; or other ways of asking it.
        answer: Tells how far a place reaches; at least one token.
        chunks: Of the part of the document that was worn.
    """
    texts = [base.plain_tokens(chunk.text) for chunk in chunks]
    # What follows a token is the answer's beginning; nothing follows the last.
    keys = [rows[:, :-1].float() for rows in internalizer.keys([ids for ids, _ in texts])]
    spans = _spans(chunks, texts, max(1, len(base.plain_ids(f" {answer}"))))
    found = []
    for prompt in prompts:
        asked = base.lock.run(partial(entering, base, prompt, internalizer.layers))
        similar = torch.cat([(rows @ asked[..., None])[..., 0] for rows in keys], 1)
        logits = similar * internalizer.sharpness[:, None]
        shares = logits.log_softmax(-1).mean(0).softmax(-1).tolist()
        places = [
            Attribution(start=start, end=end, score=score)
            for (start, end), score in zip(spans, shares, strict=True)
        ]
        found.append(sorted(places, key=lambda place: -place.score))
    return found


def _spans(
    chunks: Sequence[Chunk],
    texts: Sequence[tuple[Sequence[int], Sequence[tuple[int, int]]]],
    length: int,
) -> list[tuple[int, int]]:
    """Return the characters of `length` tokens from each token but the first of a chunk on."""
    found = []
    for chunk, (ids, spans) in zip(chunks, texts, strict=True):
        for first in range(1, len(ids)):
            start, end = spans[first][0], spans[min(first + length, len(ids)) - 1][1]
            text = chunk.text[start:end]
            start += chunk.start + len(text) - len(text.lstrip())
            found.append((start, start + len(text.strip())))
    return found


@torch.inference_mode()
def entering(base: BaseModel, prompt: Prompt, layers: Sequence[int]) -> Tensor:
    """Return what enters the layers' `down_proj` as the answer begins, (layers, d_in)."""
    ids = torch.tensor([TorchGenerator(base).prompt_ids(prompt)], device=base.device)
    states = [layers[-1] + 1]
    reading = read(base, ids, torch.ones_like(ids), layers, states, prompt.adapters)
    return torch.stack([inputs[0, -1].float() for inputs in reading.mlp_inputs])
