"""Point to where an answer begins: a question's query against the keys of a text's places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from hybridqa.protocols import Pointer
from hybridqa.types import Adapter, Places

LEAST_SHARE = 0.15
"""Of the likeliest place, below which the model's own choice is better: set on development sets."""
_STEPS = 127


def shares(pointer: Pointer, entering: Mapping[str, Tensor]) -> Tensor:
    """Return the share of each place in the answer's beginning, (places,); they sum to 1.

    Args:
        pointer: With at least one place.
        entering: By module path, (d_in,): what enters each module of `pointer.query`.
    """
    parts = [x.float() @ pointer.query[path].to(x.device).float() for path, x in entering.items()]
    query, places = torch.stack(parts).sum(0), pointer.places
    return ((places.keys.to(query).float() @ query) * places.scales.to(query)).softmax(0)


def packed(keys: Tensor, starts: Sequence[int]) -> Places:
    """Return places with their keys in 8 bits.

    Args:
        keys: (places, width).
        starts: Characters, one a place.
    """
    keys = keys.float()
    scales = keys.abs().amax(-1).clamp(min=1e-12) / _STEPS
    rounded = (keys / scales[:, None]).round().to(torch.int8)
    return Places(rounded.cpu(), scales.cpu(), torch.tensor(starts, dtype=torch.long))


def pointer_into(adapter: Adapter, task: Adapter | None, start: int, end: int) -> Pointer | None:
    """Return what points into a span of an adapter's document, if the adapter has places there.

    Args:
        adapter: Of the document, whole.
        task: Under it.
        start: First character of the span.
        end: Of the span.
    """
    if adapter.places is None or task is None or task.query is None:
        return None
    inside = part(adapter.places, start, end)
    return Pointer(query=task.query, places=inside) if len(inside.starts) else None


def part(places: Places, start: int, end: int) -> Places:
    """Return the places from one character up to, not including, another; those count from it."""
    # Views, and NumPy for the rest: no thread has to compute (see `models.turns`).
    starts = places.starts.numpy()
    first, last = np.searchsorted(starts, [start, end]).tolist()
    return Places(
        places.keys[first:last],
        places.scales[first:last],
        torch.from_numpy(starts[first:last] - start),
    )
