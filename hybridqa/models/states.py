"""Hidden states of the frozen model's first blocks, as its own forward pass makes them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hybridqa.models.base import BaseModel
from hybridqa.models.capture import decoder_layers
from hybridqa.models.lora import stack, worn
from hybridqa.types import Adapter


def hidden_states(
    base: BaseModel, ids: Tensor, mask: Tensor, blocks: int, adapters: Sequence[Adapter]
) -> list[Tensor]:
    """Run the model as if it ended after some blocks, without gradient.

    Args:
        base: The frozen model.
        ids: Token ids (batch, tokens), padded on the right.
        mask: 1 for real tokens, same shape.
        blocks: How many of the transformer blocks run, at least 1.
        adapters: Worn while reading.

    Returns:
        What enters each of these blocks, and at last what leaves the last, the model's final norm
        applied: `blocks` + 1 tensors (batch, tokens, hidden).
    """
    states: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        states.append(args[0] if args else kwargs["hidden_states"])

    first = decoder_layers(base.model)[:blocks]
    with torch.no_grad(), worn(base, stack(base.model, [adapters] * len(ids))) as model:
        handles = [block.register_forward_pre_hook(keep, with_kwargs=True) for block in first]
        try:
            out = _shortened(model.base_model, first)(ids, attention_mask=mask, use_cache=False)
        finally:
            for handle in handles:
                handle.remove()
    return [*states, out.last_hidden_state]


def both_ways(
    base: BaseModel,
    states: Tensor,
    mask: Tensor,
    blocks: range,
    adapters: Sequence[Adapter],
) -> Tensor:
    """Run some of the model's blocks on hidden states, every token seeing those after it, too.

    Gradients flow to `states` and to the factors of `adapters` that require them. That a decoder
    can be taught to read both ways by a LoRA: LLM2Vec, BehnamGhader et al. 2024 (arXiv 2404.05961).

    Args:
        base: The frozen model; its blocks are called as Llama's are.
        states: What enters the first of the blocks, (batch, tokens, hidden).
        mask: 1 for real tokens, (batch, tokens).
        blocks: Which of the transformer blocks run.
        adapters: Worn meanwhile.

    Returns:
        What leaves the last of the blocks, (batch, tokens, hidden), without the final norm.
    """
    seen = mask.bool()[:, None, None, :].expand(-1, 1, mask.shape[1], -1)
    at = torch.arange(mask.shape[1], device=mask.device)[None]
    with worn(base, stack(base.model, [adapters] * len(mask))) as model:
        decoder: Any = model.base_model
        turned = decoder.rotary_emb(states, at)
        for block in decoder_layers(model)[blocks.start : blocks.stop]:
            out = block(states, attention_mask=seen, position_ids=at, position_embeddings=turned)
            states = out[0] if isinstance(out, tuple) else out
    return states


def _shortened(decoder: nn.Module, layers: nn.ModuleList) -> Any:
    """Return a decoder of other layers that shares all modules with this one, which stays whole.

    Its own forward pass then knows what comes before the first block and after the last, whatever
    the family; and who looks at the shared model meanwhile finds all of its layers.
    """
    shorter = copy.copy(decoder)
    shorter._modules = {**decoder._modules, "layers": layers}
    return shorter
