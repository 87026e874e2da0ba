"""What goes beside an adapter's PEFT files: a document's places."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hybridqa.errors import CorruptAdapterError
from hybridqa.stores.disk import write_durably
from hybridqa.types import Adapter, Places

if TYPE_CHECKING:
    import torch

PLACES_FILE = "places.safetensors"
"""In a document adapter's folder."""
_TENSORS = ("states", "scales", "spans", "begins", "closes", "pieces")


def tensors_of(adapter: Adapter) -> dict[str, torch.Tensor]:
    """Return all tensors of an adapter that are no factors, by name."""
    return _named(adapter.places) if adapter.places else {}


def write_places(folder: Path, places: Places) -> None:
    """Write a document's places into an adapter's folder; durable when this returns."""
    from safetensors.torch import save

    named = {name: tensor.contiguous() for name, tensor in _named(places).items()}
    write_durably(folder / PLACES_FILE, save(named))


def read_places(folder: Path) -> Places | None:
    """Return a document's places, on the CPU; `None` if the folder has none.

    Raises:
        CorruptAdapterError: They are damaged.
    """
    path = folder / PLACES_FILE
    named = _read(path)
    if named is None:
        return None
    if set(named) != {*_TENSORS, "locator"} or not _belong_together(named):
        raise _damaged(path, "its tensors do not belong together")
    locator = bytes(named["locator"].tolist()).hex()
    return Places(**{name: named[name] for name in _TENSORS}, locator=locator)


def _belong_together(named: Mapping[str, torch.Tensor]) -> bool:
    import torch

    kinds = (torch.int8, torch.float32, torch.int32, torch.bool, torch.bool, torch.int64)
    if any(named[name].dtype != kind for name, kind in zip(_TENSORS, kinds, strict=True)):
        return False
    if named["locator"].dtype != torch.uint8 or named["locator"].shape != (32,):
        return False
    states, pieces = named["states"], named["pieces"]
    count = states.shape[0] if states.ndim == 2 else -1
    rows = all(named[name].shape == (count,) for name in ("scales", "begins", "closes"))
    if not rows or named["spans"].shape != (count, 2) or pieces.ndim != 1:
        return False
    firsts = pieces.tolist()
    return firsts == sorted(set(firsts)) and firsts[:1] in ([], [0]) and firsts[-1:] < [count]


def _named(places: Places) -> dict[str, torch.Tensor]:
    import torch

    locator = torch.tensor(list(bytes.fromhex(places.locator)), dtype=torch.uint8)
    return {**{name: getattr(places, name) for name in _TENSORS}, "locator": locator}


def _read(path: Path) -> dict[str, torch.Tensor] | None:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        # Read, not mapped: a file that shrinks under a mapping kills the process.
        return load(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, ValueError, KeyError) as exc:
        raise _damaged(path, str(exc)) from exc


def _damaged(path: Path, why: str) -> CorruptAdapterError:
    return CorruptAdapterError(f"`{path}` cannot be used: {why}. Get it anew.")
