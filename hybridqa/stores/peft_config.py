"""`adapter_config.json`: writing a plain LoRA's, reading any LoRA's, refusing what is more."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hybridqa.errors import AdapterError, CorruptAdapterError

CONFIG_FILE = "adapter_config.json"

_USED = {"peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern"}
_CHECKED = {"bias", "init_lora_weights", "target_modules"}
# Say where an adapter came from or how it was trained; the weights' meaning is the same.
_HARMLESS = {
    "auto_mapping",
    "base_model_name_or_path",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
}
# Other initializations (PiSSA, OLoRA, LoftQ, CorDA, ...) change the base model's own weights.
_HARMLESS_INITS = ("gaussian", "eva", "orthogonal")


def plain_config(ranks: Mapping[str, int], base_model_name: str) -> dict[str, Any]:
    """Return a configuration with which PEFT scales each module's `up @ down` by exactly 1.

    Args:
        ranks: By full module path; exactly these are targeted.
        base_model_name: Hub id or path.
    """
    top = max(ranks.values())
    # PEFT divides alpha by each module's own rank: equal numbers give a scaling of exactly 1.
    # It matches patterns as regular expressions against the end of a path; `^` ties them to its
    # beginning, and escaped dots match dots only.
    pattern = {f"^{re.escape(name)}": rank for name, rank in ranks.items() if rank != top}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model_name,
        "revision": None,
        "r": top,
        "lora_alpha": top,
        "rank_pattern": pattern,
        "alpha_pattern": pattern,
        "target_modules": list(ranks),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": None,
        "init_lora_weights": True,
        "inference_mode": True,
    }


def read_config(folder: Path) -> dict[str, Any]:
    """Return a folder's configuration.

    Raises:
        CorruptAdapterError: It is missing or not JSON.
        AdapterError: It describes more than low-rank factors of linear layers.
    """
    path = folder / CONFIG_FILE
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError as exc:
        raise CorruptAdapterError(
            f"`{folder}` is no PEFT folder: it has no `{CONFIG_FILE}`. Check the path."
        ) from exc
    except (OSError, ValueError, RecursionError) as exc:
        raise CorruptAdapterError(f"`{path}` cannot be read: {exc}. Get it anew.") from exc
    if not isinstance(config, dict):
        raise CorruptAdapterError(f"`{path}` is not a JSON object. Get it anew.")
    if config.get("peft_type") != "LORA":
        raise AdapterError(
            f"`{path}` has `peft_type` {config.get('peft_type')!r:.80}; only LORA can be used."
        )
    if config.get("bias", "none") != "none":
        raise AdapterError(
            f"`{path}` has `bias` {config['bias']!r:.80}; only adapters without trained biases "
            "can be used. Train it with `bias='none'`."
        )
    init = config.get("init_lora_weights")
    if not (init is None or isinstance(init, bool) or init in _HARMLESS_INITS):
        raise AdapterError(
            f"`{path}` has `init_lora_weights` {init!r:.80}, which changes the base model's own "
            "weights. Convert it with PEFT's "
            "`save_pretrained(path_initial_model_for_weight_conversion=...)`."
        )
    for key in sorted(config.keys() - _USED - _CHECKED - _HARMLESS):
        if config[key]:
            raise AdapterError(
                f"`{path}` has `{key}` = {config[key]!r:.80}, which cannot be expressed as "
                "low-rank factors of linear layers. Train a plain LoRA."
            )
    return config


def check_targets(folder: Path, config: Mapping[str, Any], modules: Iterable[str]) -> None:
    """Refuse weights that PEFT would silently leave out."""
    targets = config.get("target_modules")
    if not isinstance(targets, list):  # A regular expression: left to PEFT.
        return
    ends = {f".{target}" for target in targets}
    for module in modules:
        path = f".{module}"
        starts = (index for index, char in enumerate(path) if char == ".")
        if not any(path[start:] in ends for start in starts):
            raise CorruptAdapterError(
                f"`{folder}` has weights for `{module}`, which its `target_modules` do not name. "
                "Get the folder anew."
            )


def rank_and_scaling(folder: Path, config: Mapping[str, Any], module: str) -> tuple[float, float]:
    """Return the rank of a module's factors and what PEFT multiplies their product by.

    Raises:
        CorruptAdapterError: Ranks, alphas or patterns make no sense.
    """
    rank = _setting(folder, config, "r", "rank_pattern", module)
    alpha = _setting(folder, config, "lora_alpha", "alpha_pattern", module)
    return rank, alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


def _setting(
    folder: Path, config: Mapping[str, Any], name: str, patterns_name: str, module: str
) -> float:
    """Return a module's rank or alpha; the first pattern that matches wins, as in PEFT."""
    value = config.get(name)
    patterns = config.get(patterns_name) or {}
    if not isinstance(patterns, dict):
        raise CorruptAdapterError(f"`{folder}` has a `{patterns_name}` that is no JSON object.")
    for pattern, special in patterns.items():
        try:
            if re.match(rf"(.*\.)?({pattern})$", module):
                value = special
                break
        except re.error as exc:
            raise CorruptAdapterError(
                f"`{folder}` has `{pattern:.80}` in `{patterns_name}`, which is no regular "
                f"expression: {exc}."
            ) from exc
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1e6:
        raise CorruptAdapterError(
            f"`{folder}` has {value!r:.80} for `{name}` of `{module}`; it must be a number "
            "above 0, at most a million."
        )
    return value
