"""Read a pickled checkpoint of Doc-to-LoRA without running anything from it.

`torch.load(weights_only=True)` interprets the pickle itself: it rebuilds tensors and plain
containers, and may call nothing that is not on a list. We add `set` and stand-ins: classes of ours
that take the place of the checkpoint's config classes and only keep what they are given.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from hybridqa.errors import ModelError

_CONFIG_CLASSES = (
    "ctx_to_lora.configs.AggregatorArguments",
    "ctx_to_lora.configs.CtxEncoderArguments",
    "ctx_to_lora.configs.HypernetArguments",
    "ctx_to_lora.modeling.aggregator.AGGREGATOR_TYPE",
    "ctx_to_lora.modeling.aggregator.AggregatorConfig",
    "ctx_to_lora.modeling.ctx_encoder.CTX_ENCODER_TYPE",
    "ctx_to_lora.modeling.hypernet.HypernetConfig",
    "ctx_to_lora.pooling.POOL_FN",
    "peft.tuners.lora.config.LoraConfig",
    "peft.tuners.lora.config.LoraRuntimeConfig",
    "peft.utils.peft_types.PeftType",
    "peft.utils.peft_types.TaskType",
)


class Inert:
    """Stands for an object of a checkpoint: its attributes, or an enumeration's value."""

    def __init__(self, *args: object) -> None:
        self.args = args


def _stand_ins() -> list[Any]:
    classes = []
    for path in _CONFIG_CLASSES:
        module, _, name = path.rpartition(".")
        classes.append(type(name, (Inert,), {"__module__": module, "__qualname__": name}))
    return classes


def load_inert(path: Path) -> Mapping[str, Any]:
    """Return a checkpoint's dictionary: tensors on the CPU, plain values, and `Inert` objects.

    Raises:
        ModelError: The file is missing, damaged, not written by `torch.save`, or holds anything
            that is not on the list; the message names it.
    """
    advice = "Get the file anew from whom you trust, as `torch.save` wrote it."
    try:
        with torch.serialization.safe_globals([set, *_stand_ins()]):
            foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path)
            if foreign:
                names = ", ".join(f"`{name}`" for name in sorted(foreign))
                raise ModelError(
                    f"`{path}` asks for {names}, which no checkpoint of Doc-to-LoRA needs, and "
                    f"which might run code; nothing was run. {advice}"
                )
            data = torch.load(path, map_location="cpu", weights_only=True)
    except ModelError:
        raise
    except Exception as exc:  # whatever a damaged or hostile file makes the interpreter stumble on
        reason = (str(exc) or type(exc).__name__).splitlines()[0]
        raise ModelError(f"`{path}` cannot be read as a checkpoint: {reason}. {advice}") from exc
    if not isinstance(data, dict):
        raise ModelError(
            f"`{path}` holds a {type(data).__name__} where a checkpoint has a dictionary. {advice}"
        )
    return data


def attribute(origin: str, thing: object, name: str, default: object = ...) -> Any:
    """Return an attribute of an `Inert` object, as plain values where it is one's or a tensor.

    Args:
        origin: What `thing` is called in errors.
        thing: As found in the checkpoint.
        name: Of the attribute.
        default: What it is where it is missing, if it may be.

    Raises:
        ModelError: There is no such attribute.
    """
    found = vars(thing).get(name, default) if isinstance(thing, Inert) else ...
    if found is ...:
        raise ModelError(
            f"The checkpoint's `{origin}` has no `{name}`. It must have been written by "
            "Doc-to-LoRA's own training code; get the file anew."
        )
    if isinstance(found, torch.Tensor):
        return found.tolist()
    if isinstance(found, Inert) and vars(found).get("args"):
        return found.args[0]  # an enumeration's
    return found
