"""Convert a published checkpoint of Doc-to-LoRA (arXiv 2602.15902) into a folder of ours, once.

Theirs is one pickle: the state dict of the hypernetwork, and beside the tensors their config
objects. Nothing in it is executed (see `inert_pickle`). Every tensor keeps its values and dtype.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hybridqa.config import validate
from hybridqa.errors import ConfigError, InputError, ModelError
from hybridqa.internalize.checkpoint import save_checkpoint
from hybridqa.internalize.doc_to_lora import target_paths
from hybridqa.internalize.inert_pickle import attribute, load_inert
from hybridqa.internalize.perceiver import PerceiverConfig, PerceiverHypernetwork
from hybridqa.models.base import BaseModel
from hybridqa.models.capture import decoder_layers
from hybridqa.stores.disk import disk_errors

_CONFIGS = ("base_model_name_or_path", "hypernet_config", "ctx_encoder_args")
_COMPILED = "_orig_mod."
_TRUNK = "aggregator.perceiver."
_BLOCK_PARTS = {"input_norm": 0, "widen": 1, "narrow": 3, "output_norm": 4}
"""Of the residual blocks: their places in the sequence that theirs are; 2 has no weights."""


def convert_checkpoint(
    source: Path, folder: Path, base: BaseModel, max_chunk_tokens: int
) -> PerceiverConfig:
    """Write `source` as a checkpoint folder that `PerceiverInternalizer` loads.

    Args:
        source: Their `pytorch_model.bin`.
        folder: New or empty.
        base: The model that it was trained for; checked as far as names and shapes tell.
        max_chunk_tokens: Length of chunks; the checkpoint does not say.

    Raises:
        InputError: The folder is not empty.
        ModelError: It is not such a checkpoint, is damaged, was trained for another model, or
            needs what we do not have; the message says which.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"`{folder}` is there already. Name a new or empty folder.")
    data = {str(name).removeprefix(_COMPILED): value for name, value in load_inert(source).items()}
    lacking = [name for name in _CONFIGS if name not in data]
    if lacking:
        raise ModelError(
            f"`{source}` has no {_listed(lacking)}, so it is no checkpoint of Doc-to-LoRA. Give "
            "the `pytorch_model.bin` of a published one."
        )
    _check_name(source, str(data["base_model_name_or_path"]), base)
    config = _config(source, data, base, max_chunk_tokens)
    target_paths(base, config)
    with torch.device("meta"):
        network = PerceiverHypernetwork(config)
    tensors = {name: value for name, value in data.items() if name not in _CONFIGS}
    network.load_state_dict(_state(source, tensors, network), assign=True)
    with disk_errors("write the checkpoint", folder):
        save_checkpoint(folder, network, eight_bits=False)
    return config


def _check_name(source: Path, name: str, base: BaseModel) -> None:
    """Refuse another model of the hub; a local folder may be called anything."""
    if not Path(base.name).exists() and base.name != name:
        raise ModelError(
            f"`{source}` was trained for `{name}`, but the loaded model is `{base.name}`. Set "
            f"`model: name:` to `{name}`, or to a local folder with it."
        )


def _config(
    source: Path, data: Mapping[str, Any], base: BaseModel, max_chunk_tokens: int
) -> PerceiverConfig:
    def hyper(name: str, default: object = ...) -> Any:
        return attribute("hypernet_config", data["hypernet_config"], name, default)

    def trunk(name: str) -> Any:
        return attribute("aggregator_config", hyper("aggregator_config"), name)

    def lora(name: str) -> Any:
        return attribute("lora_config", hyper("lora_config"), name)

    def reads(name: str) -> Any:
        return attribute("ctx_encoder_args", data["ctx_encoder_args"], name, None)

    must = {
        "aggregator_type": (trunk("aggregator_type"), "perceiver"),
        "shared_weights": (bool(trunk("shared_weights")), False),
        "per_rank_gen": (bool(hyper("per_rank_gen")), True),
        "per_layer_processing": (bool(hyper("per_layer_processing")), True),
        "extra_modules": (hyper("extra_modules", None) or None, None),
        "ctx_encoder_model_name_or_path": (
            reads("ctx_encoder_model_name_or_path") or data["base_model_name_or_path"],
            data["base_model_name_or_path"],
        ),
    }
    for name, (found, wanted) in must.items():
        if found != wanted:
            raise ModelError(
                f"`{source}` has `{name}` = {found!r:.80}; only {wanted!r} is supported, as in the "
                "published checkpoints."
            )
    modules = lora("target_modules")
    modules = sorted(map(str, modules)) if isinstance(modules, set | list | tuple) else modules
    blocks = len(decoder_layers(base.model))
    per_layer = reads("ctx_encoder_type") == "per_layer_activations"
    early = reads("ctx_encoder_type") == "early_exit"
    last = reads("ctx_encoder_last_layer")
    sizes = hyper("feature_sizes")
    try:
        fields = {
            "model_fingerprint": base.fingerprint,
            "encoder": reads("ctx_encoder_type"),
            "encoder_blocks": (last or blocks) - 1
            if per_layer
            else (reads("layer_idx") or max(1, blocks // 4) if early else 1),
            "layers": hyper("layer_indices"),
            "modules": modules,
            "d_in": {name: sizes[0][name] for name in modules},
            "d_out": {name: sizes[1][name] for name in modules},
            "hidden": trunk("feature_size"),
            "rank": lora("r"),
            "alpha": lora("lora_alpha"),
            "use_bias": bool(hyper("use_bias", True)),
            "latent": hyper("latent_size"),
            "latents": trunk("n_latent_queries"),
            "blocks": trunk("num_blocks"),
            "self_attentions": trunk("num_self_attn_per_block"),
            "head_blocks": hyper("num_pre_head_layers", 4),
            "max_chunk_tokens": max_chunk_tokens,
        }
        return validate(PerceiverConfig, fields, str(source))
    except (ConfigError, TypeError, KeyError, IndexError) as exc:
        raise ModelError(
            f"`{source}` has a config that cannot be used ({exc}). Get the file anew."
        ) from exc


def _state(
    source: Path, theirs: dict[str, Any], network: PerceiverHypernetwork
) -> dict[str, Tensor]:
    """Return their tensors by our names, in our shapes."""
    state, missing, wrong, damaged = {}, [], [], []
    several = len(network.config.modules) > 1
    for name, ours in network.state_dict().items():
        called, shape = _as_theirs(name, tuple(ours.shape), several)
        found = theirs.pop(called, None)
        if not isinstance(found, Tensor):
            missing.append(called)
        elif tuple(found.shape) != shape or not found.is_floating_point():
            wrong.append(f"{called}: {found.dtype} {tuple(found.shape)} instead of {shape}")
        elif not found.isfinite().all():
            damaged.append(called)
        else:
            state[name] = found.reshape(ours.shape).clone()
    for what, names in (
        ("has no", [f"tensor `{name}`" for name in missing]),
        ("has tensors of other shapes than its config says:", wrong),
        ("has NaN or infinite values in", damaged),
        ("has what its config does not tell of:", [f"`{name}`" for name in theirs]),
    ):
        if names:
            raise ModelError(f"`{source}` {what} {_listed(names)}. Get the file anew.")
    return state


def _as_theirs(name: str, shape: tuple[int, ...], several: bool) -> tuple[str, tuple[int, ...]]:
    """Return what one of our tensors is called there, and its shape there.

    `several` modules of a layer have a dimension in the head; one has none.
    """
    block = re.fullmatch(r"blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if block:
        number, part, side = block.groups()
        called = f"layers.{number}.layers.{_BLOCK_PARTS[part]}.{side}"
        bias = side == "bias" and len(shape) == 2
        return called, (1, shape[0], 1, 1, shape[1]) if bias else shape
    if name == "head":
        return "head.weight", shape if several else (shape[0], *shape[2:])
    if name.startswith("scaler_"):
        return name, (1, *shape, 1)
    if name.startswith("bias_"):
        return name, shape
    return _TRUNK + re.sub(r"^projection\.", "modality_projection.", name), shape


def _listed(names: list[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
