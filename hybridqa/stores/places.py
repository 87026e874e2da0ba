"""What goes beside an adapter's PEFT files: a document's places, or what finds them."""

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
QUERY_FILE = "query.safetensors"
"""In a task adapter's folder."""


def tensors_of(adapter: Adapter) -> dict[str, torch.Tensor]:
    """Return all tensors of an adapter that are no factors, by name."""
    query = {f"query.{path}": tensor for path, tensor in (adapter.query or {}).items()}
    return query | (_named(adapter.places) if adapter.places else {})


def write_places(folder: Path, places: Places) -> None:
    """Write a document's places into an adapter's folder; durable when this returns."""
    _write(folder / PLACES_FILE, _named(places))


def read_places(folder: Path) -> Places | None:
    """Return a document's places, on the CPU; `None` if the folder has none.

    Raises:
        CorruptAdapterError: They are damaged.
    """
    import torch

    named = _read(folder / PLACES_FILE)
    if named is None:
        return None
    try:
        places = Places(named["keys"], named["scales"], named["starts"])
    except KeyError as exc:
        raise _damaged(folder / PLACES_FILE, f"it has no {exc}") from exc
    count = len(places.starts)
    if (
        (places.keys.dtype, places.scales.dtype, places.starts.dtype)
        != (torch.int8, torch.float32, torch.int64)
        or places.keys.ndim != 2
        or not len(places.keys) == len(places.scales) == count
        or places.scales.shape != places.starts.shape
        or bool((places.starts[1:] < places.starts[:-1]).any())
    ):
        raise _damaged(folder / PLACES_FILE, "its tensors do not belong together")
    return places


def write_query(folder: Path, query: Mapping[str, torch.Tensor]) -> None:
    """Write what finds places into a task adapter's folder; durable when this returns."""
    _write(folder / QUERY_FILE, query)


def read_query(folder: Path) -> dict[str, torch.Tensor] | None:
    """Return what finds places, on the CPU, by module path; `None` if the folder has none.

    Raises:
        CorruptAdapterError: It is damaged.
    """
    query = _read(folder / QUERY_FILE)
    if query is not None:
        widths = {tuple(tensor.shape[1:]) for tensor in query.values()}
        if len(widths) != 1 or any(tensor.ndim != 2 for tensor in query.values()):
            raise _damaged(folder / QUERY_FILE, "its matrices do not have one width")
    return query


def _named(places: Places) -> dict[str, torch.Tensor]:
    return {"keys": places.keys, "scales": places.scales, "starts": places.starts}


def _write(path: Path, named: Mapping[str, torch.Tensor]) -> None:
    from safetensors.torch import save

    write_durably(path, save({name: t.contiguous() for name, t in named.items()}))


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
