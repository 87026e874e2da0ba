"""Task adapters, such as the reader that teaches a small model to read: kept apart from documents.

They come with the package or from the user, are loaded once, and lie under every arm.
"""

from __future__ import annotations

from pathlib import Path

from hybridqa.stores.peft_folder import adapter_id, read_peft
from hybridqa.types import Adapter


def load_task_adapter(folder: str | Path, model_fingerprint: str) -> Adapter:
    """Return the adapter in a PEFT folder, on the CPU.

    Args:
        folder: With `adapter_config.json` and `adapter_model.safetensors`.
        model_fingerprint: Of the base model that will wear it.

    Raises:
        CorruptAdapterError: Files are missing, damaged or contradict each other.
        AdapterError: It is not a plain LoRA.
    """
    layers = read_peft(Path(folder))
    return Adapter(
        id=adapter_id(layers, model_fingerprint, "task"),
        layers=layers,
        model_fingerprint=model_fingerprint,
    )
