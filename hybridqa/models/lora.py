"""Wear adapters for the length of one call: each request of a batch its own.

Forward hooks add `up @ down @ x` to the outputs of the frozen linear layers while a `with` block
runs and are gone afterwards. Weights are never touched, so two calls cannot see each other's
documents, and a batch may mix any adapters (and none).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hybridqa.errors import AdapterError
from hybridqa.models.base import BaseModel
from hybridqa.types import Adapter, LoraLayer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class _Change:
    """Low-rank change of one linear layer, laid out for a batch: `x @ down @ up`.

    `down` is (d_in, rank) and `up` (rank, d_out), or both have a leading dimension: each row's own.
    """

    def __init__(self, down: Tensor, up: Tensor, rows: Tensor | None = None) -> None:
        """Keep the factors.

        Args:
            down: As above.
            up: As above.
            rows: Of the batch that are changed; by default all.
        """
        self._down, self._up, self._rows = down, up, rows

    @cached_property
    def _wide(self) -> tuple[Tensor, Tensor]:
        return self._down.float(), self._up.float()

    def add(self, output: Tensor, x: Tensor) -> None:
        """Add to the layer's output what the change makes of its input."""
        if self._rows is None:
            output += self._of(x)
        else:
            output.index_add_(0, self._rows, self._of(x[self._rows]))

    def _of(self, x: Tensor) -> Tensor:
        if x.shape[-2] == 1 and x.device.type == "cpu":
            # One token a row: on a CPU, setting up a product this small in half precision takes
            # longer than the whole product in float32.
            down, up = self._wide
            return (x.float() @ down @ up).to(x.dtype)
        return x @ self._down @ self._up


Stacked = Mapping[nn.Module, Sequence[_Change]]
"""Changes to the linear layers of a model, laid out for one batch."""


def stack(model: nn.Module, rows: Sequence[Sequence[Adapter]]) -> Stacked:
    """Lay out the adapters of a batch: row i wears all of `rows[i]`, their changes add up.

    Raises:
        AdapterError: A layer does not exist in the model or has another shape.
    """
    stacked: dict[nn.Module, list[_Change]] = {}
    for slot in zip_longest(*rows):
        for module, change in _batch(model, slot):
            stacked.setdefault(module, []).append(change)
    return stacked


@contextmanager
def worn(base: BaseModel, stacked: Stacked) -> Iterator[PreTrainedModel]:
    """Lend the model wearing `stacked`; nobody else can use it until the block ends."""
    with base.lock:
        handles = [
            module.register_forward_hook(_adding(changes)) for module, changes in stacked.items()
        ]
        if head := base.model.get_output_embeddings():
            handles.append(head.register_forward_pre_hook(_contiguous))
        try:
            yield base.model
        finally:
            for handle in handles:
                handle.remove()


def _contiguous(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Put together the last positions of a batch, which are a slice of all positions.

    Of a slice torch makes one matrix product per row, each with its own copy of the vocabulary's
    weights: more than half of the time of a batch's first token. `contiguous()` would not do: a
    slice of one row it returns as it is, with the strides of the whole.
    """
    return tuple(arg.clone(memory_format=torch.contiguous_format) for arg in args)


def _adding(changes: Sequence[_Change]) -> Any:
    def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        for change in changes:
            change.add(output, args[0])  # nobody else holds the output yet
        return output

    return hook


def _batch(model: nn.Module, slot: Sequence[Adapter | None]) -> Iterator[tuple[nn.Module, _Change]]:
    """Lay out the factors of one adapter per row, module by module.

    Adapters that several rows wear, task adapters above all, are laid out once; those of one row
    stand side by side.
    """
    worn_by: dict[int, list[int]] = {}
    for row, adapter in enumerate(slot):
        if adapter:
            worn_by.setdefault(id(adapter), []).append(row)
    single = [row for rows in worn_by.values() if len(rows) == 1 for row in rows]
    several = [rows for rows in worn_by.values() if len(rows) > 1]
    for rows in [single, *several] if single else several:
        adapters = [slot[row] for row in rows]
        first = adapters[0]
        assert first is not None
        at = None if len(rows) == len(slot) else torch.tensor(rows)
        paths = (
            first.layers if rows is not single else {p: 0 for a in adapters if a for p in a.layers}
        )
        for path in paths:
            module = _linear(model, path)
            weight = module.weight
            for adapter in {id(a): a for a in adapters if a}.values():
                if path in adapter.layers:
                    _check(adapter, path, weight)
            where = None if at is None else at.to(weight.device)
            if rows is single and len(rows) > 1:
                layers = [a.layers.get(path) if a else None for a in adapters]
                yield module, _Change(*_side_by_side(layers, weight), where)
            else:
                layer = first.layers[path]
                yield module, _Change(layer.down.to(weight).T, layer.up.to(weight).T, where)


def _side_by_side(layers: Sequence[LoraLayer | None], weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return each row's own factors, padded with zeros to the largest rank."""
    rank = max(layer.down.shape[0] for layer in layers if layer)
    down = weight.new_zeros(len(layers), weight.shape[1], rank)
    up = weight.new_zeros(len(layers), rank, weight.shape[0])
    for row, layer in enumerate(layers):
        if layer:
            down[row, :, : layer.down.shape[0]] = layer.down.T
            up[row, : layer.up.shape[1]] = layer.up.T
    return down, up


def _linear(model: nn.Module, path: str) -> nn.Linear:
    try:
        module = model.get_submodule(path)
    except AttributeError:
        module = None
    if not isinstance(module, nn.Linear):
        raise AdapterError(
            f"The model has no linear layer `{path}` that an adapter names. "
            "Use the adapter with the base model it was made for."
        )
    return module


def _check(adapter: Adapter, path: str, weight: Tensor) -> None:
    layer, (d_out, d_in) = adapter.layers[path], weight.shape
    rank = layer.down.shape[0]
    if layer.down.shape != (rank, d_in) or layer.up.shape != (d_out, rank):
        raise AdapterError(
            f"Adapter `{adapter.id[:12]}` changes `{path}` by factors of shape "
            f"{tuple(layer.up.shape)} and {tuple(layer.down.shape)}, but the layer is "
            f"{d_out} x {d_in}. Use the adapter with the base model it was made for."
        )
