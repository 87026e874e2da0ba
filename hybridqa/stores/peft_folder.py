"""Adapters as standard PEFT folders: `adapter_config.json` and `adapter_model.safetensors`.

Ours and other people's alike. What a `LoraLayer` cannot express is refused by name, never
dropped; nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridqa.errors import AdapterError, CorruptAdapterError
from hybridqa.stores.disk import disk_errors, sync_folder, write_durably
from hybridqa.stores.peft_config import (
    CONFIG_FILE,
    check_targets,
    plain_config,
    rank_and_scaling,
    read_config,
)
from hybridqa.types import LoraLayer

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

WEIGHTS_FILE = "adapter_model.safetensors"

_SERIAL = 32_000
"""Numbers that torch works through in one thread; see `models.turns` for why."""
_PREFIX = "base_model.model."
_MODULE = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_KEY = re.compile(
    rf"{re.escape(_PREFIX)}(?P<module>{_MODULE.pattern})\.lora_(?P<side>[AB])\.weight"
)


def write_peft(folder: Path, layers: Mapping[str, LoraLayer], base_model_name: str) -> None:
    """Write an adapter so that stock PEFT applies exactly `up @ down` to exactly these modules.

    Tensors keep their dtype. Files are on the disk when this returns.

    Args:
        folder: Created if missing; must not hold an adapter yet.
        layers: By full module path; ranks may differ.
        base_model_name: Hub id or path that PEFT users find the base model by.

    Raises:
        AdapterError: The layers are not a valid adapter, or the folder holds one already.
        StoreError: The folder cannot be written; nothing is left in it.
    """
    check_layers(layers)
    ranks = {name: layer.down.shape[0] for name, layer in sorted(layers.items())}
    config = plain_config(ranks, base_model_name)
    weights = _serialize(layers)
    files = {CONFIG_FILE: json.dumps(config, indent=2).encode() + b"\n", WEIGHTS_FILE: weights}
    for name in files:
        if (folder / name).exists():
            raise AdapterError(
                f"`{folder}` holds an adapter already (`{name}`). Choose an empty folder."
            )
    with disk_errors("write the adapter", folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            for name, data in files.items():
                write_durably(folder / name, data)
            sync_folder(folder)
        except BaseException:
            for name in files:
                (folder / name).unlink(missing_ok=True)
            raise


def read_peft(folder: Path) -> dict[str, LoraLayer]:
    """Return a PEFT LoRA folder's layers, on the CPU, by full module path.

    The scaling is folded into `up`, which keeps its dtype: exact where the scaling is a power of
    two (as in all folders that `write_peft` made), else rounded once to that dtype.

    Raises:
        CorruptAdapterError: Files are missing, damaged or contradict each other.
        AdapterError: It is a kind of adapter that `LoraLayer` cannot express.
    """
    config = read_config(folder)
    factors = _read_factors(folder)
    check_targets(folder, config, factors)
    layers = {}
    for module in sorted(factors):
        sides = factors[module]
        if set(sides) != {"A", "B"}:
            missing = ({"A", "B"} - set(sides)).pop()
            raise CorruptAdapterError(
                f"`{folder}` has no `lora_{missing}` for `{module}`. Get the folder anew."
            )
        layers[module] = _fold(folder, module, sides["A"], sides["B"], config)
    try:
        check_layers(layers)
    except AdapterError as exc:
        raise CorruptAdapterError(f"`{folder}` is damaged. {exc}") from exc
    return layers


def adapter_id(
    layers: Mapping[str, LoraLayer],
    model_fingerprint: str,
    origin: str,
    others: Mapping[str, torch.Tensor] | None = None,
) -> str:
    r"""Return the content address: SHA-256 of the factors, their base model and their origin.

    Args:
        layers: Their order does not matter; names, dtypes, shapes and bytes do.
        model_fingerprint: Of the base model.
        origin: `"{document_id}\n{content_hash}"` of a document adapter, `"task"` of a task
            adapter, or how it reads: equal factors of two documents are two adapters.
        others: Tensors that belong to the adapter besides, by name.
    """
    digest = hashlib.sha256()
    # JSON lines hold no raw line break, and shape and dtype say how many bytes follow: no two
    # adapters yield the same stream.
    digest.update(json.dumps(["hybridqa adapter 1", model_fingerprint, origin]).encode() + b"\n")
    for name in sorted(layers):
        for side, tensor in (("down", layers[name].down), ("up", layers[name].up)):
            _hash(digest, [name, side], tensor)
    for name, tensor in sorted((others or {}).items()):
        _hash(digest, [name], tensor)
    return digest.hexdigest()


def _hash(digest: hashlib._Hash, names: list[str], tensor: torch.Tensor) -> None:
    header = [*names, str(tensor.dtype).removeprefix("torch."), list(tensor.shape)]
    digest.update(json.dumps(header).encode() + b"\n")
    digest.update(_raw(tensor).data)


def _raw(tensor: torch.Tensor) -> NDArray[np.uint8]:
    """Return a tensor's bytes, by row, where they are; on another device a copy."""
    import torch

    raw: NDArray[np.uint8] = tensor.detach().cpu().contiguous().view(torch.uint8).numpy()
    return raw


def document_origin(document_id: str, content_hash: str) -> str:
    """Return the `origin` of a document adapter's id."""
    return f"{document_id}\n{content_hash}"


def check_layers(layers: Mapping[str, LoraLayer]) -> None:
    """Raise `AdapterError` unless names, shapes, ranks, dtypes and values make an adapter."""
    import torch

    if not layers:
        raise AdapterError("The adapter has no layers. Give it at least one.")
    for name, layer in layers.items():
        down, up = layer.down, layer.up
        if not _MODULE.fullmatch(name):
            raise AdapterError(f"`{name}` is no module path such as `model.layers.0.mlp.up_proj`.")
        if down.ndim != 2 or up.ndim != 2 or down.shape[0] != up.shape[1] or down.shape[0] < 1:
            raise AdapterError(
                f"`{name}` has `down` of shape {tuple(down.shape)} and `up` of "
                f"{tuple(up.shape)}; they must be (rank, d_in) and (d_out, rank)."
            )
        for side, tensor in (("down", down), ("up", up)):
            if tensor.dtype not in (torch.float32, torch.bfloat16, torch.float16):
                raise AdapterError(
                    f"`{name}` has `{side}` of dtype {tensor.dtype}; "
                    "it must be float32, bfloat16 or float16."
                )
            if not all(part.isfinite().all() for part in tensor.flatten().split(_SERIAL)):
                raise AdapterError(
                    f"`{name}` has a NaN or infinite value in `{side}`. Make the adapter again."
                )


def _serialize(layers: Mapping[str, LoraLayer]) -> bytes:
    import torch
    from safetensors.torch import save

    tensors: dict[str, torch.Tensor] = {}
    for name, layer in layers.items():
        for side, tensor in (("A", layer.down), ("B", layer.up)):
            # Copies: safetensors refuses tensors that share memory. By numpy, in one thread.
            copy = torch.from_numpy(_raw(tensor).copy()).view(tensor.dtype)
            tensors[f"{_PREFIX}{name}.lora_{side}.weight"] = copy
    return save(tensors, metadata={"format": "pt"})


def _read_factors(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Return the tensors by module path and side (`A` or `B`)."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = folder / WEIGHTS_FILE
    try:
        # Read, not mapped: a file that shrinks under a mapping kills the process.
        tensors = load(path.read_bytes())
    except FileNotFoundError as exc:
        if any(folder.glob("adapter_model.bin*")):
            raise AdapterError(
                f"`{folder}` holds pickled weights (`adapter_model.bin`), which can run any code "
                "when loaded. Convert it to safetensors with PEFT on a machine you can lose."
            ) from exc
        raise CorruptAdapterError(f"`{folder}` has no `{WEIGHTS_FILE}`. Get it anew.") from exc
    except (OSError, SafetensorError, ValueError, KeyError) as exc:
        raise CorruptAdapterError(f"`{path}` cannot be read: {exc}. Get it anew.") from exc
    factors: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise AdapterError(
                f"`{path}` has a tensor `{key:.200}` that is no LoRA factor of a linear layer; "
                "adapters with other trained parts cannot be used."
            )
        factors.setdefault(match["module"], {})[match["side"]] = tensor
    return factors


def _fold(
    folder: Path,
    module: str,
    down: torch.Tensor,
    up: torch.Tensor,
    config: Mapping[str, Any],
) -> LoraLayer:
    rank, scaling = rank_and_scaling(folder, config, module)
    if down.ndim != 2 or up.ndim != 2 or not down.shape[0] == up.shape[1] == rank:
        raise CorruptAdapterError(
            f"`{folder}` has factors of shapes {tuple(down.shape)} and {tuple(up.shape)} for "
            f"`{module}`, but its configuration says rank {rank:g}. Get the folder anew."
        )
    if scaling != 1.0:
        up = (up.float() * scaling).to(up.dtype)
    return LoraLayer(down=down, up=up)
