"""Hypernetwork checkpoints: `config.json` and `model.safetensors`, matrices in 8 bits.

A matrix may be stored as int8 with one scale per row (`NAME` and `NAME.scale`): half the size of
bfloat16. Nothing is executed from a checkpoint.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from hybridqa.config import validate
from hybridqa.errors import ModelError
from hybridqa.internalize.hypernetwork import AssociativeConfig, AssociativeHypernetwork

_MIN_QUANTIZED = 4096
_SCALE = ".scale"


def save_checkpoint(folder: Path, network: AssociativeHypernetwork) -> None:
    """Write a checkpoint with its matrices in 8 bits."""
    folder.mkdir(parents=True, exist_ok=True)
    config = dataclasses.asdict(network.config)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file(quantize(network.state_dict()), folder / "model.safetensors")


def load_checkpoint(
    folder: Path, model_fingerprint: str, dtype: torch.dtype
) -> tuple[AssociativeHypernetwork, str]:
    """Return the hypernetwork in evaluation mode and the SHA-256 of its two files.

    Raises:
        ModelError: Files are missing or broken, or were trained with another base model.
    """
    try:
        text = (folder / "config.json").read_text()
        weights = (folder / "model.safetensors").read_bytes()
        state = dequantize(load_file(folder / "model.safetensors"))
        config = validate(AssociativeConfig, json.loads(text), str(folder / "config.json"))
    except (OSError, ValueError, SafetensorError) as exc:
        raise ModelError(
            f"Hypernetwork checkpoint `{folder}` cannot be read: {exc}. It must hold "
            "`config.json` and `model.safetensors`; reinstall hybridqa or train one."
        ) from exc
    if config.model_fingerprint != model_fingerprint:
        raise ModelError(
            f"Hypernetwork `{folder}` was trained with the model with fingerprint "
            f"`{config.model_fingerprint[:12]}`, but the loaded model has "
            f"`{model_fingerprint[:12]}`. Load that model, or set `internalize: internalizer:` to "
            "`distillation`, which needs no hypernetwork."
        )
    network = AssociativeHypernetwork(config)
    try:
        network.load_state_dict(state)
    except RuntimeError as exc:
        raise ModelError(f"Hypernetwork `{folder}` does not fit its config: {exc}") from exc
    digest = hashlib.sha256(text.encode() + weights).hexdigest()
    return network.to(dtype).eval().requires_grad_(False), digest


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
