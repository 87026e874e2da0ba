"""What is kept of a text's tokens, in 8 bits: packed, unpacked, and taken in part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from hybridqa.types import Places

_STEPS = 127


@dataclass(frozen=True, eq=False)
class Piece:
    """A piece of a text, as it was read: with a place before and one behind its tokens."""

    states: Tensor
    """(places, width), float32."""
    spans: Tensor
    """(places, 2)."""
    begins: Tensor
    closes: Tensor


def packed(
    pieces: Sequence[Tensor],
    spans: Sequence[tuple[int, int]],
    begins: Sequence[bool],
    closes: Sequence[bool],
    locator: str,
) -> Places:
    """Return places with their states in 8 bits.

    Args:
        pieces: States of each, (tokens + 2, width): those of its tokens, one before, one behind.
        spans: Characters of the tokens of all pieces.
        begins: Where an answer may begin, one a token; the next likewise.
        closes: Where one may end.
        locator: Fingerprint of what kept them.
    """
    lengths = [len(piece) for piece in pieces]
    width = pieces[0].shape[1] if pieces else 0
    firsts = np.cumsum([0, *lengths], dtype=np.int64)[:-1]
    total = sum(lengths)
    at = np.ones(total, dtype=bool)  # of tokens
    at[firsts] = at[firsts + np.array(lengths, dtype=int) - 1] = False
    edges = np.zeros((total, 2), dtype=np.int32)
    edges[at] = np.array(spans, dtype=np.int32).reshape(-1, 2)
    for first, length in zip(firsts.tolist(), lengths, strict=True):
        if length > 2:
            edges[first] = edges[first + 1, 0]
            edges[first + length - 1] = edges[first + length - 2, 1]
    flags = np.zeros((2, total), dtype=bool)
    flags[:, at] = np.array([begins, closes], dtype=bool).reshape(2, -1)
    states = np.concatenate([np.zeros((0, width), np.float32), *(p.numpy() for p in pieces)])
    scales = np.maximum(np.abs(states).max(-1, initial=0), 1e-12) / _STEPS
    return Places(
        torch.from_numpy(np.round(states / scales[:, None]).astype(np.int8)),
        torch.from_numpy(scales.astype(np.float32)),
        torch.from_numpy(edges),
        torch.from_numpy(flags[0]),
        torch.from_numpy(flags[1]),
        torch.from_numpy(firsts.astype(np.int64)),
        locator,
    )


def unpacked(places: Places) -> Iterator[Piece]:
    """Yield the pieces of a text."""
    edges = [*places.pieces.tolist(), len(places.scales)]
    for first, last in pairwise(edges):
        yield Piece(
            places.states[first:last].float() * places.scales[first:last, None],
            places.spans[first:last],
            places.begins[first:last],
            places.closes[first:last],
        )


def part(places: Places, spans: Sequence[tuple[int, int]], origin: int = 0) -> Places:
    """Return the pieces that lie in any of some spans (start, end) of the text.

    Args:
        places: Of the text.
        spans: Characters.
        origin: From which characters are counted in what is returned.
    """
    # By NumPy: no thread has to compute (see `models.turns`).
    edges = list(pairwise([*places.pieces.tolist(), len(places.scales)]))
    characters = places.spans.numpy()
    inside = [
        (first, last)
        for first, last in edges
        if any(
            start <= int(characters[first, 0]) and int(characters[last - 1, 1]) <= end
            for start, end in spans
        )
    ]
    if len(inside) == len(edges) and not origin:
        return places
    rows = np.concatenate([np.arange(0), *(np.arange(a, b) for a, b in inside)])
    firsts = np.cumsum([0, *(b - a for a, b in inside)], dtype=np.int64)[:-1]

    def taken(tensor: Tensor) -> Tensor:
        return torch.from_numpy(tensor.numpy()[rows])

    return Places(
        taken(places.states),
        taken(places.scales),
        torch.from_numpy(characters[rows] - np.int32(origin)),
        taken(places.begins),
        taken(places.closes),
        torch.from_numpy(firsts),
        places.locator,
    )
