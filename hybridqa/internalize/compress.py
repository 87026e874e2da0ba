"""Best low-rank form of an update, and adapters that add up.

Eckart-Young: the truncated singular value decomposition is the closest matrix of a given rank.
With few terms, both factors are QR-decomposed and only the small core is decomposed, so the dense
update is never formed. With more terms than the layer is wide, the update is formed once and its
leading singular vectors are found by randomized subspace iteration (Halko et al. 2011).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hybridqa.types import LoraLayer

_POWER_ITERATIONS = 3
_OVERSAMPLING = 16


def compress(down: Tensor, up: Tensor, rank: int) -> tuple[LoraLayer, float]:
    """Return the best rank-`rank` form of `up @ down`.

    Args:
        down: Shape (terms, d_in).
        up: Shape (d_out, terms).
        rank: At least 1; the result has at most this rank.

    Returns:
        The layer in float32, its factors balanced, and the energy kept: the share of the squared
        Frobenius norm, in [0, 1] (1 for an update of zeros).
    """
    down, up = down.float(), up.float()
    terms, d_in = down.shape
    if terms >= min(d_in, up.shape[0]):
        return compress_dense(up @ down, rank)
    q_up, r_up = torch.linalg.qr(up)
    q_down, r_down = torch.linalg.qr(down.T)
    u, s, vh = torch.linalg.svd(r_up @ r_down.T)
    total = float(s.square().sum())
    return _balanced(q_up @ u[:, :rank], s[:rank], vh[:rank] @ q_down.T, total)


def compress_dense(delta: Tensor, rank: int, seed: int = 0) -> tuple[LoraLayer, float]:
    """Return the leading rank-`rank` part of a dense update of shape (d_out, d_in).

    Randomized: within 0.1 % of the optimum's energy on updates whose spectrum decays (tested).
    """
    width = min(rank + _OVERSAMPLING, *delta.shape)
    generator = torch.Generator(device="cpu").manual_seed(seed)
    probe = torch.randn(delta.shape[1], width, generator=generator).to(delta)
    basis = torch.linalg.qr(delta @ probe).Q
    for _ in range(_POWER_ITERATIONS):
        basis = torch.linalg.qr(delta.T @ basis).Q
        basis = torch.linalg.qr(delta @ basis).Q
    u, s, vh = torch.linalg.svd(basis.T @ delta, full_matrices=False)
    total = float(delta.square().sum())
    return _balanced(basis @ u[:, :rank], s[:rank], vh[:rank], total)


def stack_layers(layers: Sequence[LoraLayer]) -> LoraLayer:
    """Return one layer whose update is the sum of all: factors concatenated along the rank."""
    return LoraLayer(
        down=torch.cat([layer.down.float() for layer in layers], dim=0),
        up=torch.cat([layer.up.float() for layer in layers], dim=1),
    )


def _balanced(u: Tensor, s: Tensor, vh: Tensor, total: float) -> tuple[LoraLayer, float]:
    root = s.sqrt()
    layer = LoraLayer(down=(root[:, None] * vh).contiguous(), up=(u * root).contiguous())
    return layer, min(float(s.square().sum()) / total, 1.0) if total else 1.0
