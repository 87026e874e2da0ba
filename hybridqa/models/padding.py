"""Token sequences of different lengths as one batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

PAD = 0
"""Stands where no token is; masked, so any will do."""


def padded(
    rows: Sequence[Sequence[int]], device: torch.device | str = "cpu", left: bool = False
) -> tuple[Tensor, Tensor]:
    """Return token ids and mask, (rows, longest) each, the mask 1 for tokens.

    Args:
        rows: At least one.
        device: Of both.
        left: Whether padding stands before a row's tokens, not after them.
    """
    longest = max(map(len, rows))
    gaps = [longest - len(row) for row in rows]
    pairs = list(zip(rows, gaps, strict=True))
    if left:
        ids = [[PAD] * gap + [*row] for row, gap in pairs]
        mask = [[0] * gap + [1] * len(row) for row, gap in pairs]
    else:
        ids = [[*row] + [PAD] * gap for row, gap in pairs]
        mask = [[1] * len(row) + [0] * gap for row, gap in pairs]
    return (
        torch.tensor(ids, dtype=torch.long, device=device),
        torch.tensor(mask, dtype=torch.long, device=device),
    )
