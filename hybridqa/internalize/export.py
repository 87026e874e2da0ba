"""Export what is worn together as one adapter that stock PEFT, vLLM and llama.cpp can load."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from hybridqa.errors import AdapterError, AdapterMismatchError
from hybridqa.internalize.compress import compress, stack_layers
from hybridqa.models.base import BaseModel
from hybridqa.stores.gguf_file import write_gguf
from hybridqa.stores.peft_folder import write_peft
from hybridqa.types import Adapter, LoraLayer

GGUF = "adapter.gguf"
"""The file in a folder that llama.cpp loads."""


def export_stack(
    folder: Path, adapters: Sequence[Adapter], base_model_name: str, rank: int | None = None
) -> None:
    """Write one PEFT folder whose update is the sum of the adapters' updates.

    Nothing is approximated without `rank`: factors are concatenated along the rank, module by
    module. They keep their dtype where all adapters of a module share it, else float32 is written.

    Args:
        folder: Created if missing; must not hold an adapter yet.
        adapters: As in `Prompt.adapters`: a task adapter, then document adapters.
        base_model_name: Hub id or path that PEFT users find the base model by.
        rank: Of every module, for engines such as vLLM that know one rank only: what has less is
            padded with zeros, what has more is compressed.

    Raises:
        AdapterMismatchError: The adapters were made for different base models.
        AdapterError: There is none, they do not fit together, or the folder holds one already.
        StoreError: The folder cannot be written; nothing is left in it.
    """
    layers = _summed(adapters)
    if rank is not None:
        layers = {path: _of_rank(layer, rank) for path, layer in layers.items()}
    write_peft(folder, layers, base_model_name)


def export_gguf(folder: Path, adapters: Sequence[Adapter], base: BaseModel) -> None:
    """Write the sum of the adapters' updates as `GGUF`, for llama.cpp; see `export_stack`.

    Raises:
        AdapterError: As for `export_stack`, or of the base model's kind llama.cpp's names of
            modules are not known.
    """
    layers = _summed(adapters)
    write_gguf(folder / GGUF, layers, base.model.config)


def _summed(adapters: Sequence[Adapter]) -> dict[str, LoraLayer]:
    if not adapters:
        raise AdapterError("There is no adapter to export. Give at least one.")
    for adapter in adapters:
        if adapter.model_fingerprint != adapters[0].model_fingerprint:
            raise AdapterMismatchError(
                adapter.id, adapter.model_fingerprint, adapters[0].model_fingerprint
            )
    by_path: dict[str, list[LoraLayer]] = {}
    for adapter in adapters:
        for path, layer in adapter.layers.items():
            by_path.setdefault(path, []).append(layer)
    return {path: _sum(path, by_path[path]) for path in by_path}


def _of_rank(layer: LoraLayer, rank: int) -> LoraLayer:
    own, dtype = layer.down.shape[0], layer.down.dtype
    if own > rank:
        small, _ = compress(layer.down, layer.up, rank)
        return LoraLayer(small.down.to(dtype), small.up.to(dtype))
    return LoraLayer(
        torch.cat([layer.down, layer.down.new_zeros(rank - own, layer.down.shape[1])]),
        torch.cat([layer.up, layer.up.new_zeros(layer.up.shape[0], rank - own)], dim=1),
    )


def _sum(path: str, layers: Sequence[LoraLayer]) -> LoraLayer:
    shapes = {(layer.up.shape[0], layer.down.shape[1]) for layer in layers}
    if len(shapes) > 1:
        raise AdapterError(
            f"The adapters change `{path}` by matrices of different shapes, {sorted(shapes)}. "
            "Export only adapters of the same base model together."
        )
    dtypes = {tensor.dtype for layer in layers for tensor in (layer.down, layer.up)}
    dtype = dtypes.pop() if len(dtypes) == 1 else torch.float32
    total = stack_layers([LoraLayer(layer.down.cpu(), layer.up.cpu()) for layer in layers])
    return LoraLayer(total.down.to(dtype), total.up.to(dtype))
