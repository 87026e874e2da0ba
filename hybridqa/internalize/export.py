"""Export what is worn together as one adapter that stock PEFT, vLLM and others can load."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from hybridqa.errors import AdapterError, AdapterMismatchError
from hybridqa.internalize.compress import stack_layers
from hybridqa.stores.peft_folder import write_peft
from hybridqa.types import Adapter, LoraLayer


def export_stack(folder: Path, adapters: Sequence[Adapter], base_model_name: str) -> None:
    """Write one PEFT folder whose update is the sum of the adapters' updates.

    Nothing is approximated: factors are concatenated along the rank, module by module. They keep
    their dtype where all adapters of a module share it, else float32 is written.

    Args:
        folder: Created if missing; must not hold an adapter yet.
        adapters: As in `Prompt.adapters`: a task adapter, then document adapters.
        base_model_name: Hub id or path that PEFT users find the base model by.

    Raises:
        AdapterMismatchError: The adapters were made for different base models.
        AdapterError: There is none, they do not fit together, or the folder holds one already.
        StoreError: The folder cannot be written; nothing is left in it.
    """
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
    write_peft(folder, {path: _sum(path, by_path[path]) for path in by_path}, base_model_name)


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
