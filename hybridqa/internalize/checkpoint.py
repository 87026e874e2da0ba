"""Hypernetwork checkpoints: `config.json` and `model.safetensors`, often with matrices in 8 bits.

`kind` in the config says which network it is. A matrix may be stored as int8 with one scale per row
(`NAME` and `NAME.scale`): half the size of bfloat16. Nothing is executed from a checkpoint.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from hybridqa.config import validate
from hybridqa.errors import ConfigError, ModelError
from hybridqa.internalize.hypernetwork import AssociativeConfig, AssociativeHypernetwork
from hybridqa.internalize.perceiver import PerceiverConfig, PerceiverHypernetwork

Hypernetwork = AssociativeHypernetwork | PerceiverHypernetwork
N = TypeVar("N", AssociativeHypernetwork, PerceiverHypernetwork)

_KINDS: Mapping[str, tuple[type[Hypernetwork], type[AssociativeConfig] | type[PerceiverConfig]]] = {
    "associative": (AssociativeHypernetwork, AssociativeConfig),
    "perceiver": (PerceiverHypernetwork, PerceiverConfig),
}
_OLDEST = "associative"
"""What a config is of that does not say its kind."""
_MIN_QUANTIZED = 4096
_SCALE = ".scale"


def save_checkpoint(folder: Path, network: Hypernetwork, eight_bits: bool = True) -> None:
    """Write a checkpoint.

    Args:
        folder: Created if missing.
        network: Of any kind.
        eight_bits: Whether its matrices are rounded to 8 bits, or kept as they are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kind = next(name for name, (cls, _) in _KINDS.items() if isinstance(network, cls))
    config = {"kind": kind, **dataclasses.asdict(network.config)}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    state = network.state_dict()
    stored = quantize(state) if eight_bits else {n: t.contiguous() for n, t in state.items()}
    save_file(stored, folder / "model.safetensors")


def checkpoint_kind(folder: Path) -> str:
    """Return which network a checkpoint holds: `associative` or `perceiver`.

    Raises:
        ModelError: Its config cannot be read.
    """
    return _kind(_read_config(folder)[1])


def load_checkpoint(
    folder: Path, model_fingerprint: str, dtype: torch.dtype, network_type: type[N]
) -> tuple[N, str]:
    """Return the hypernetwork in evaluation mode and the SHA-256 of its two files.

    Raises:
        ModelError: Files are missing or broken, it is another kind of network, or it was trained
            with another base model.
    """
    text, data = _read_config(folder)
    kind = _kind(data)
    found, config_type = _KINDS.get(kind, (None, None))
    if found is not network_type or config_type is None:
        wanted = next(name for name, (cls, _) in _KINDS.items() if cls is network_type)
        raise ModelError(
            f"Hypernetwork `{folder}` is of the kind `{kind}`, and `{wanted}` is wanted. Set "
            "`internalize: internalizer:` to its kind, or `hypernetwork:` to another folder."
        )
    data = {name: value for name, value in data.items() if name != "kind"}
    try:
        config = validate(config_type, data, str(folder / "config.json"))
        state = dequantize(load_file(folder / "model.safetensors"))
        digest = hashlib.sha256(text.encode())
        with (folder / "model.safetensors").open("rb") as file:
            while block := file.read(1 << 24):
                digest.update(block)
    except (OSError, ValueError, KeyError, SafetensorError, ConfigError) as exc:
        raise _unreadable(folder, exc) from exc
    if config.model_fingerprint != model_fingerprint:
        raise ModelError(
            f"Hypernetwork `{folder}` was trained with the model with fingerprint "
            f"`{config.model_fingerprint[:12]}`, but the loaded model has "
            f"`{model_fingerprint[:12]}`. Load that model, or set `internalize: internalizer:` to "
            "`distillation`, which needs no hypernetwork."
        )
    network = network_type(config)  # type: ignore[arg-type]  # the kind's own, by the table above
    try:
        network.load_state_dict(state)
    except RuntimeError as exc:
        raise ModelError(f"Hypernetwork `{folder}` does not fit its config: {exc}") from exc
    return network.to(dtype).eval().requires_grad_(False), digest.hexdigest()


def _read_config(folder: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = (folder / "config.json").read_text()
        data = json.loads(text)
        if not isinstance(data, dict):
            raise ValueError("`config.json` holds no JSON object")
    except (OSError, ValueError) as exc:
        raise _unreadable(folder, exc) from exc
    return text, data


def _kind(data: Mapping[str, Any]) -> str:
    return str(data.get("kind", _OLDEST))


def _unreadable(folder: Path, exc: Exception) -> ModelError:
    return ModelError(
        f"Hypernetwork checkpoint `{folder}` cannot be read: {exc}. It must hold "
        "`config.json` and `model.safetensors`; reinstall hybridqa or train one."
    )


def quantize(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict whose large matrices are int8 with a float32 scale per row."""
    stored = {}
    for name, tensor in state.items():
        if tensor.ndim < 2 or tensor.numel() < _MIN_QUANTIZED:
            stored[name] = tensor.detach().float().contiguous()
            continue
        scale = tensor.detach().float().abs().amax(-1, keepdim=True).clamp(min=1e-12) / 127
        stored[name] = (tensor.detach().float() / scale).round().to(torch.int8).contiguous()
        stored[name + _SCALE] = scale.squeeze(-1).contiguous()
    return stored


def dequantize(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undo `quantize`, in float32."""
    state = {}
    for name, tensor in stored.items():
        if tensor.dtype == torch.int8:
            state[name] = tensor.float() * stored[name + _SCALE][..., None]
        elif name.removesuffix(_SCALE) == name or name.removesuffix(_SCALE) not in stored:
            state[name] = tensor.float()
    return state
