"""Where and with what a figure was measured, so that it can be published with it."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybridqa.models.base import BaseModel


def machine(device: str) -> dict[str, str | int | None]:
    """Describe this machine and the code that runs.

    Args:
        device: Torch's name of the device that the model is on.

    Returns:
        `commit` is `None` outside a git checkout, and ends in `+` where files differ from it.
    """
    return {
        "device": _device_name(device),
        "cpus": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": package_version("torch"),
        "transformers": package_version("transformers"),
        "hybridqa": package_version("hybridqa"),
        "commit": _commit(),
    }


def peak_memory_bytes() -> int:
    """Return the largest resident size of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not `getrusage`: on Linux its maximum includes the process that started this one.
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def cache_bytes_per_token(base: BaseModel) -> int:
    """Return the bytes of one token's keys and values in the model's cache, by a real one."""
    import torch

    tokens = 64

    @torch.inference_mode()
    def read() -> Any:
        ids = torch.zeros(1, tokens, dtype=torch.long, device=base.device)
        return base.model(input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values

    cache = base.lock.run(read)
    elements = sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers)
    return int(elements) * base.dtype.itemsize // tokens


def _device_name(device: str) -> str:
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_name(torch.device(device))
    return f"{device}, {torch.get_num_threads()} threads"


def package_version(package: str) -> str | None:
    """Return the installed version; `None` where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    folder = Path(__file__).resolve().parents[1]
    if not (folder / ".git").exists():
        return None
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=12", "--dirty=+"]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
