"""Read off what the frozen model computes while it reads a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hybridqa.models.base import BaseModel
from hybridqa.models.lora import stack, worn
from hybridqa.types import Adapter


@dataclass(frozen=True, eq=False)
class Reading:
    """States of a batch of texts, each tensor of shape (batch, tokens, width)."""

    embeddings: Tensor
    states: Mapping[int, Tensor]
    """Hidden states that enter a layer; those after the last layer have its number plus one."""
    mlp_inputs: Sequence[Tensor]
    """Inputs of `down_proj`, one per captured layer."""


class _Done(Exception):  # noqa: N818 - not an error: the layers above are not needed
    """Ends a forward pass early."""


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """Return the transformer blocks of a causal language model."""
    decoder = getattr(model, str(getattr(model, "base_model_prefix", "model")))
    layers: nn.ModuleList = decoder.layers
    return layers


def read(
    base: BaseModel,
    ids: Tensor,
    mask: Tensor,
    layers: Sequence[int],
    states: Sequence[int],
    adapters: Sequence[Adapter],
) -> Reading:
    """Run the model over a batch as far as is asked for, without gradient.

    Args:
        base: The frozen model.
        ids: Token ids (batch, tokens), padded on the right.
        mask: 1 for real tokens, same shape.
        layers: Whose MLPs' inputs to `down_proj` are kept.
        states: Layers whose entering hidden states are kept; one above the last of `layers`.
        adapters: Worn while reading.
    """
    inputs: dict[int, Tensor] = {}
    entering: dict[int, Tensor] = {}
    blocks = decoder_layers(base.model)
    top = max(states)

    def keep(into: dict[int, Tensor], n: int, stop: bool = False):  # type: ignore[no-untyped-def]
        def hook(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
            into[n] = args[0] if args else kwargs["hidden_states"]
            if stop:
                raise _Done

        return hook

    above = [*blocks, base.model.base_model.get_submodule("norm")]
    hooked: list[tuple[nn.Module, Any]] = [
        (above[n], keep(entering, n, stop=n == top)) for n in states
    ]
    hooked += [(blocks[n].get_submodule("mlp.down_proj"), keep(inputs, n)) for n in layers]
    with torch.no_grad(), worn(base, stack(base.model, [adapters] * len(ids))) as model:
        handles = [module.register_forward_pre_hook(h, with_kwargs=True) for module, h in hooked]
        try:
            model(input_ids=ids, attention_mask=mask, use_cache=False)
        except _Done:
            pass
        finally:
            for handle in handles:
                handle.remove()
        embeddings = model.get_input_embeddings()(ids)
    return Reading(embeddings, entering, [inputs[n] for n in layers])
