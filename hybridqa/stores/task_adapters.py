"""Task adapters, such as the reader that teaches a small model to read: kept apart from documents.

They come with the package or from the user, are loaded once, and lie under every arm.
"""

from __future__ import annotations

import json
from pathlib import Path

from hybridqa.errors import AdapterMismatchError, CorruptAdapterError
from hybridqa.stores.peft_folder import adapter_id, read_peft
from hybridqa.types import Adapter

TRAINED_WITH = "trained_with.json"
"""Beside the PEFT files of our own task adapters: the fingerprint of their base model, and whether
they read passages apart."""


def load_task_adapter(folder: str | Path, model_fingerprint: str) -> Adapter:
    """Return the adapter in a PEFT folder, on the CPU.

    Args:
        folder: With `adapter_config.json` and `adapter_model.safetensors`.
        model_fingerprint: Of the base model that will wear it.

    Raises:
        AdapterMismatchError: Its `trained_with.json` names another base model; folders of other
            tools have no such file, and then only the shapes can tell.
        CorruptAdapterError: Files are missing, damaged or contradict each other.
        AdapterError: It is not a plain LoRA.
    """
    layers = read_peft(Path(folder))
    origin, apart = Path(folder) / TRAINED_WITH, False
    if origin.is_file():
        try:
            told = json.loads(origin.read_text())
            trained_with, apart = str(told["model_fingerprint"]), told.get("passages_apart") is True
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise CorruptAdapterError(
                f"`{origin}` does not tell a `model_fingerprint` ({exc!r}). Restore the file."
            ) from exc
        if trained_with != model_fingerprint:
            raise AdapterMismatchError(str(folder), trained_with, model_fingerprint)
    kind = "task, passages apart" if apart else "task"
    own = adapter_id(layers, model_fingerprint, kind)
    return Adapter(own, layers, model_fingerprint, passages_apart=apart)
