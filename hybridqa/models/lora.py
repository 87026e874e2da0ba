"""Wear adapters for the length of one call: each request of a batch its own.

Forward hooks add `up @ down @ x` to the outputs of the frozen linear layers while a `with` block
runs and are gone afterwards. Weights are never touched, so two calls cannot see each other's
documents, and a batch may mix any adapters (and none).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridqa.errors import AdapterError
from hybridqa.models.base import BaseModel
from hybridqa.types import Adapter, LoraLayer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class _Shared:
    """The same factors for every row: `down` (rank, d_in), `up` (d_out, rank)."""

    down: Tensor
    up: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(F.linear(x, self.down), self.up)


@dataclass(frozen=True)
class _PerRow:
    """Own factors for each row: `down` (rows, d_in, rank), `up` (rows, rank, d_out)."""

    down: Tensor
    up: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return torch.bmm(torch.bmm(x, self.down), self.up)


Stacked = Mapping[str, Sequence["_Shared | _PerRow"]]
"""Changes to the linear layers of a model, by module path, laid out for one batch."""


def stack(model: nn.Module, rows: Sequence[Sequence[Adapter]]) -> Stacked:
    """Lay out the adapters of a batch: row i wears all of `rows[i]`, their changes add up.

    Raises:
        AdapterError: A layer does not exist in the model or has another shape.
    """
    stacked: dict[str, list[_Shared | _PerRow]] = {}
    for slot in zip_longest(*rows):
        for path, change in _batch(model, slot).items():
            stacked.setdefault(path, []).append(change)
    return stacked


@contextmanager
def worn(base: BaseModel, stacked: Stacked) -> Iterator[PreTrainedModel]:
    """Lend the model wearing `stacked`; nobody else can use it until the block ends."""
    with base.lock:
        handles = [
            base.model.get_submodule(path).register_forward_hook(_adding(changes))
            for path, changes in stacked.items()
        ]
        try:
            yield base.model
        finally:
            for handle in handles:
                handle.remove()


def _adding(changes: Sequence[_Shared | _PerRow]) -> Any:
    def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        for change in changes:
            output = output + change(args[0])
        return output

    return hook


def _batch(model: nn.Module, slot: Sequence[Adapter | None]) -> Mapping[str, _Shared | _PerRow]:
    """Lay the factors of one adapter per row side by side, module by module."""
    paths = {path: None for adapter in slot if adapter for path in adapter.layers}
    shared = slot[0] if all(adapter is slot[0] for adapter in slot) else None
    batched: dict[str, _Shared | _PerRow] = {}
    for path in paths:
        weight = _weight(model, path)
        for adapter in slot:
            if adapter and path in adapter.layers:
                _check(adapter, path, weight)
        if shared:
            layer = shared.layers[path]
            batched[path] = _Shared(layer.down.to(weight), layer.up.to(weight))
        else:
            batched[path] = _per_row([a.layers.get(path) if a else None for a in slot], weight)
    return batched


def _per_row(layers: Sequence[LoraLayer | None], weight: Tensor) -> _PerRow:
    rank = max(layer.down.shape[0] for layer in layers if layer)
    down = weight.new_zeros(len(layers), weight.shape[1], rank)
    up = weight.new_zeros(len(layers), rank, weight.shape[0])
    for row, layer in enumerate(layers):
        if layer:
            down[row, :, : layer.down.shape[0]] = layer.down.T
            up[row, : layer.up.shape[1]] = layer.up.T
    return _PerRow(down, up)


def _weight(model: nn.Module, path: str) -> Tensor:
    try:
        module = model.get_submodule(path)
    except AttributeError:
        module = None
    if not isinstance(module, nn.Linear):
        raise AdapterError(
            f"The model has no linear layer `{path}` that an adapter names. "
            "Use the adapter with the base model it was made for."
        )
    return module.weight


def _check(adapter: Adapter, path: str, weight: Tensor) -> None:
    layer, (d_out, d_in) = adapter.layers[path], weight.shape
    rank = layer.down.shape[0]
    if layer.down.shape != (rank, d_in) or layer.up.shape != (d_out, rank):
        raise AdapterError(
            f"Adapter `{adapter.id[:12]}` changes `{path}` by factors of shape "
            f"{tuple(layer.up.shape)} and {tuple(layer.down.shape)}, but the layer is "
            f"{d_out} x {d_in}. Use the adapter with the base model it was made for."
        )
