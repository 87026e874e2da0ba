"""LoRAs of the whole model: made trainable, and written where a task adapter is looked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from hybridqa.models.base import BaseModel
from hybridqa.stores.peft_folder import write_peft
from hybridqa.stores.task_adapters import TRAINED_WITH
from hybridqa.types import LoraLayer


def trainable(layers: Mapping[str, LoraLayer], base: BaseModel) -> dict[str, LoraLayer]:
    """Return copies of factors as parameters in float32."""

    def parameter(tensor: Tensor) -> nn.Parameter:
        return nn.Parameter(tensor.detach().float().clone().to(base.device))

    return {path: LoraLayer(parameter(x.down), parameter(x.up)) for path, x in layers.items()}


def write_task_adapter(
    folder: Path, layers: Mapping[str, LoraLayer], base: BaseModel, passages_apart: bool = False
) -> None:
    """Write factors as a PEFT folder in bfloat16, with how they were trained.

    Args:
        folder: Made, if it does not exist.
        layers: By module path.
        base: The model they were trained with.
        passages_apart: As in `Adapter`.
    """
    rounded = {
        path: LoraLayer(x.down.detach().bfloat16(), x.up.detach().bfloat16())
        for path, x in layers.items()
    }
    write_peft(folder, rounded, base.name)
    told: dict[str, object] = {"model_fingerprint": base.fingerprint}
    if passages_apart:
        told["passages_apart"] = True
    (folder / TRAINED_WITH).write_text(json.dumps(told, indent=2) + "\n")
