"""Read off what the frozen model computes while it reads a text."""

from __future__ import annotations

from collections.abc import Sequence
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
    entering: Tensor
    """Hidden states before the first captured layer."""
    leaving: Tensor
    """Hidden states after the last captured layer."""
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
    base: BaseModel, ids: Tensor, mask: Tensor, layers: range, adapters: Sequence[Adapter]
) -> Reading:
    """Run the model over a batch up to the last of `layers`, without gradient.

    Args:
        base: The frozen model.
        ids: Token ids (batch, tokens), padded on the right.
        mask: 1 for real tokens, same shape.
        layers: Consecutive layers to capture.
        adapters: Worn while reading.
    """
    caught: dict[str | int, Tensor] = {}
    blocks = decoder_layers(base.model)

    def keep(key: str | int, stop: bool = False):  # type: ignore[no-untyped-def]
        def hook(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
            caught[key] = args[0] if args else kwargs["hidden_states"]
            if stop:
                raise _Done

        return hook

    last = layers[-1] + 1
    above = blocks[last] if last < len(blocks) else base.model.base_model.get_submodule("norm")
    hooked: list[tuple[nn.Module, Any]] = [
        (blocks[layers[0]], keep("entering")),
        (above, keep("leaving", stop=True)),
    ]
    hooked += [(blocks[n].get_submodule("mlp.down_proj"), keep(n)) for n in layers]
    with torch.inference_mode(), worn(base, stack(base.model, [adapters] * len(ids))) as model:
        handles = [module.register_forward_pre_hook(h, with_kwargs=True) for module, h in hooked]
        try:
            model(input_ids=ids, attention_mask=mask, use_cache=False)
        except _Done:
            pass
        finally:
            for handle in handles:
                handle.remove()
        embeddings = model.get_input_embeddings()(ids)
    inputs = [caught[n] for n in layers]
    return Reading(embeddings, caught["entering"], caught["leaving"], inputs)
