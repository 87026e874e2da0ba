"""What an associative network's keys tell of where answers begin, in a few numbers a token.

The keys of a token, in all target layers, are projected to one short key; a question's activations
in the same layers are projected to a query. Their product stands for the sum of the layers' own
products: phrase retrieval (Lee et al. 2021, arXiv 2012.12624) from inside the model that answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from hybridqa.errors import ModelError

FILE = "places.safetensors"
"""In a checkpoint's folder, if it finds places."""

Projections = Mapping[int, Tensor]
"""By target layer, (d_in, width)."""


def short_keys(keys: Sequence[Tensor], layers: Sequence[int], projections: Projections) -> Tensor:
    """Return one key for each token, (..., tokens, width).

    Args:
        keys: By target layer, (..., tokens, d_in).
        layers: Which layers these are.
        projections: Of some of them.
    """
    by_layer = zip(layers, keys, strict=True)
    parts = [key @ projections[n].to(key) for n, key in by_layer if n in projections]
    return torch.stack(parts).sum(0)


def beginnings(text: str, spans: Sequence[tuple[int, int]]) -> list[int]:
    """Return where in a text an answer begins that follows each token but the last.

    Args:
        text: Of the tokens.
        spans: Characters (start, end) of each token.
    """
    starts = []
    for start, _ in spans[1:]:
        while start < len(text) - 1 and text[start].isspace():
            start += 1
        starts.append(start)
    return starts


def projections_hash(projections: Projections) -> str:
    """Return the SHA-256 of projections: other ones make other places."""
    digest = hashlib.sha256()
    for n, tensor in sorted(projections.items()):
        digest.update(f"{n} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()


def save_projections(folder: Path, projections: Projections) -> None:
    """Write projections of keys into a checkpoint's folder."""
    named = {str(n): tensor.contiguous() for n, tensor in projections.items()}
    save_file(named, folder / FILE)


def load_projections(folder: Path) -> dict[int, Tensor] | None:
    """Return the projections of keys in a checkpoint's folder; `None` if there are none.

    Raises:
        ModelError: They cannot be read.
    """
    try:
        named = load_file(folder / FILE)
        return {int(name): tensor for name, tensor in named.items()}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, SafetensorError) as exc:
        raise ModelError(
            f"`{folder / FILE}` cannot be read: {exc}. Restore the checkpoint, or delete the file "
            "to do without places."
        ) from exc
