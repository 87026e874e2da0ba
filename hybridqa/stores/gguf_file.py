"""Adapters as llama.cpp reads them: one GGUF file, `general.type` adapter, two tensors a module."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hybridqa.errors import AdapterError
from hybridqa.stores.disk import disk_errors, sync_folder
from hybridqa.stores.peft_folder import check_layers
from hybridqa.types import LoraLayer

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from transformers import PretrainedConfig

_LLAMA = frozenset({"llama", "mistral"})
"""Kinds of models that llama.cpp runs as `llama`, and whose names it knows them by."""


def write_gguf(file: Path, layers: Mapping[str, LoraLayer], config: PretrainedConfig) -> None:
    """Write an adapter so that llama.cpp adds exactly `up @ down`, rounded to float16.

    Args:
        file: New; its folder is created if missing.
        layers: By full module path; ranks may differ.
        config: Of the base model, which must be of Llama's kind.

    Raises:
        AdapterError: The model is of another kind, a module has no name in llama.cpp, the layers
            are not a valid adapter, or the file is there already.
        StoreError: It cannot be written; nothing is left of it.
    """
    import gguf

    if config.model_type not in _LLAMA:
        raise AdapterError(
            f"The base model is of the kind `{config.model_type}`, and adapters for llama.cpp are "
            f"written for {sorted(_LLAMA)} only. Export a PEFT folder, and convert it with "
            "llama.cpp's `convert_lora_to_gguf.py`."
        )
    check_layers(layers)
    if file.exists():
        raise AdapterError(f"`{file}` is there already. Choose an empty folder.")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    new = file.with_suffix(".new")
    with disk_errors("write the adapter", file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            writer = gguf.GGUFWriter(new, gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH.LLAMA])
            writer.add_type(gguf.GGUFType.ADAPTER)
            writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
            # Each tensor would be scaled by alpha / its rank; of 0, llama.cpp makes a scale of 1.
            writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, 0.0)
            for path, layer in layers.items():
                name = names.get_name(f"{path}.weight", try_suffixes=(".weight",))
                if name is None:
                    raise AdapterError(
                        f"llama.cpp has no name for the module `{path}`. Export a PEFT folder."
                    )
                writer.add_tensor(f"{name}.lora_a", _half(layer.down))
                writer.add_tensor(f"{name}.lora_b", _half(_turned(path, layer.up, config)))
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
            os.replace(new, file)
            sync_folder(file.parent)
        except BaseException:
            new.unlink(missing_ok=True)
            raise


def _turned(path: str, up: torch.Tensor, config: PretrainedConfig) -> torch.Tensor:
    """Return the rows of a query's or key's factor in llama.cpp's order.

    It rotates neighbours, where transformers rotates the halves of a head.
    """
    name = path.rpartition(".")[2]
    if name not in {"q_proj", "k_proj"}:
        return up
    heads = config.num_attention_heads if name == "q_proj" else config.num_key_value_heads
    halves = up.unflatten(0, (heads, 2, up.shape[0] // heads // 2))
    turned: torch.Tensor = halves.transpose(1, 2).flatten(0, 2)
    return turned


def _half(tensor: torch.Tensor) -> NDArray[np.float16]:
    import numpy as np

    return tensor.detach().cpu().float().numpy().astype(np.float16)
