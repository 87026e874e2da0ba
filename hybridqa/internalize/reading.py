"""What the Perceiver hypernetwork reads: a document as a chat turn, in chunks, and its states.

Chunks are made of tokens, as in Doc-to-LoRA's training: the whole turn is cut into pieces of equal
length, and each piece is given the template's beginning and end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import takewhile

import torch
from jinja2 import TemplateError
from torch import Tensor

from hybridqa.errors import ModelError
from hybridqa.internalize.perceiver import PerceiverConfig
from hybridqa.models.base import BaseModel
from hybridqa.models.generator import neutralize, special_strings
from hybridqa.models.states import hidden_states
from hybridqa.types import Adapter

_SYSTEM = ""
_PLACEHOLDER = "hybridqaDocumentGoesHere"
_PROBES = ("a", "7", "Q")
"""Texts that share no token: what their turns have in common is the template."""


def chunk_ids(base: BaseModel, text: str, max_tokens: int) -> list[list[int]]:
    """Return the tokens of a document's chunks, each a chat turn of its own.

    Args:
        base: Its tokenizer's own template is used: an empty system message, the document as the
            user's, then the beginning of the answer.
        text: What looks like a special token in it is broken up.
        max_tokens: A longer turn is cut into n = ceil(length / `max_tokens`) pieces of
            ceil(length / n) tokens; what the template adds to each comes on top.

    Raises:
        ModelError: The model has no chat template.
    """
    before, after = _template(base)
    content = neutralize(text.strip(), special_strings(base.tokenizer))
    ids = base.chat_ids(before + content + after)
    pieces = math.ceil(len(ids) / max_tokens)
    if pieces == 1:
        return [ids]
    prefix, suffix = turn_ends(base)
    size = math.ceil(len(ids) / pieces)
    cut = [ids[n : n + size] for n in range(0, len(ids), size)]
    return [
        (prefix if n > 0 else []) + piece + (suffix if n < len(cut) - 1 else [])
        for n, piece in enumerate(cut)
    ]


def turn_ends(base: BaseModel) -> tuple[list[int], list[int]]:
    """Return the tokens that the template puts before and after a document.

    Raises:
        ModelError: The model has no chat template.
    """
    before, after = _template(base)
    turns = [base.chat_ids(before + probe + after) for probe in _PROBES]
    return _common(turns), _common([turn[::-1] for turn in turns])[::-1]


def states_of(
    base: BaseModel,
    config: PerceiverConfig,
    ids: Tensor,
    mask: Tensor,
    adapters: Sequence[Adapter] = (),
) -> Tensor:
    """Return what a network of this config reads of a batch of chunks, without gradient.

    Args:
        base: The model it was made for.
        config: Says what is read.
        ids: Token ids (batch, tokens), padded on the right.
        mask: 1 for real tokens, same shape.
        adapters: Worn while reading.

    Returns:
        (batch, tokens, hidden), or with `per_layer_activations` (batch, layers, tokens, hidden).
    """
    states = hidden_states(base, ids, mask, config.encoder_blocks, adapters)
    if config.per_layer:
        return torch.stack(states, dim=1)
    return states[0] if config.encoder == "embed_only" else states[-1]


def _template(base: BaseModel) -> tuple[str, str]:
    """Return what the chat template puts before and after a document.

    Some templates refuse a system message. Then it stands before the user's, and a blank line
    between them, which is what templates that know one do for models that do not.
    """
    tokenizer = base.tokenizer
    if not tokenizer.chat_template:
        raise ModelError(
            f"The tokenizer of `{base.name}` has no chat template, and the Perceiver hypernetwork "
            "reads documents as chat turns. Use the instruction-tuned model it was trained with."
        )
    user = {"role": "user", "content": _PLACEHOLDER}
    between = ""
    try:
        text = _rendered(base, [{"role": "system", "content": _SYSTEM}, user])
    except TemplateError:
        text, between = _rendered(base, [user]), f"{_SYSTEM}\n\n"
    before, _, after = text.partition(_PLACEHOLDER)
    return before + between, after


def _rendered(base: BaseModel, messages: list[dict[str, str]]) -> str:
    return str(
        base.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    )


def _common(sequences: Sequence[list[int]]) -> list[int]:
    """Return what all sequences begin with."""
    columns = takewhile(lambda column: len(set(column)) == 1, zip(*sequences, strict=False))
    return [column[0] for column in columns]
