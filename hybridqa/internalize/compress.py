"""Best low-rank form of an update, and adapters that add up or come apart.

Eckart-Young: the truncated singular value decomposition is the closest matrix of a given rank.
`compress` finds it exactly for one update. `compress_batch` finds it for many updates at once by
randomized subspace iteration (Halko et al. 2011, arXiv 0909.4061), several times faster. Neither
forms the dense updates: only their factors and small cores are decomposed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hybridqa.types import Adapter, LoraLayer

_POWER_ITERATIONS = 1
_OVERSAMPLING = 16
_SHIFT, _SMALLEST = 1e-6, 1e-30
"""Of a Gram matrix's trace, and at least: what makes it surely positive."""


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
    q_up, r_up = torch.linalg.qr(up.float())
    q_down, r_down = torch.linalg.qr(down.float().T)
    u, s, vh = torch.linalg.svd(r_up @ r_down.T, full_matrices=False)
    root = s[:rank].sqrt()
    layer = LoraLayer(
        down=(root[:, None] * (vh[:rank] @ q_down.T)).contiguous(),
        up=((q_up @ u[:, :rank]) * root).contiguous(),
    )
    return layer, _kept(s[:rank].square().sum(), s.square().sum())


def compress_batch(
    down: Tensor, up: Tensor, rank: int, seed: int = 0
) -> tuple[Tensor, Tensor, list[float]]:
    """Return nearly the best rank-`rank` form of each `up[n] @ down[n]`.

    Within 0.1 % of the optimum's energy where the spectrum decays, as a document's does (tested).
    What need not be exact is computed in the precision of the factors.

    Args:
        down: Shape (updates, terms, d_in).
        up: Shape (updates, d_out, terms).
        rank: At least 1.
        seed: Of the random probe.

    Returns:
        In float32, `down` of shape (updates, r, d_in), `up` of shape (updates, d_out, r) with
        r = `rank` or the largest rank possible, and the energy that each update keeps.
    """
    basis = leading_outputs(down, up, rank + _OVERSAMPLING, seed)
    # What is left is tall and thin; its QR leaves a core of width x width to decompose.
    q_down, core = torch.linalg.qr(down.float().mT @ (up.float().mT @ basis))
    u, s, vh = torch.linalg.svd(core.mT)
    u, s, vh = u[..., :rank], s[..., :rank], vh[..., :rank, :]
    root = s.sqrt()
    # |up @ down|^2 = <up^T up, down down^T>
    totals = ((up.mT @ up).float() * (down @ down.mT)).sum((-2, -1))
    energies = [_kept(k, t) for k, t in zip(s.square().sum(-1), totals, strict=True)]
    return root[..., None] * (vh @ q_down.mT), (basis @ u) * root[..., None, :], energies


def leading_outputs(
    down: Tensor, up: Tensor, width: int, seed: int = 0, iterations: int = _POWER_ITERATIONS
) -> Tensor:
    """Return nearly the span of the first left singular vectors of each `up[n] @ down[n]`.

    Args:
        down: Shape (updates, terms, d_in); products are made in its precision.
        up: Shape (updates, d_out, terms).
        width: At least 1.
        seed: Of the random probe.
        iterations: Of the power method; more are wanted where all of `width` is kept.

    Returns:
        Orthonormal columns in float32, (updates, d_out, `width` or the largest rank possible).
    """
    width = min(width, down.shape[1], down.shape[2], up.shape[1])
    generator = torch.Generator(device="cpu").manual_seed(seed)
    probe = torch.randn(down.shape[2], width, generator=generator).to(down)
    orthonormal = by_cholesky if probe.is_cuda else by_householder
    basis = orthonormal((up @ (down @ probe)).float())
    for _ in range(iterations):
        across = orthonormal((down.mT @ (up.mT @ basis.to(up))).float())
        basis = orthonormal((up @ (down @ across.to(down))).float())
    return basis


def by_householder(x: Tensor) -> Tensor:
    """Return orthonormal columns that span what those of each x[n] span."""
    basis: Tensor = torch.linalg.qr(x).Q
    return basis


def by_cholesky(x: Tensor) -> Tensor:
    """Return the same, by products: a GPU's QR decomposes one matrix after the other.

    Shifted Cholesky QR, done twice: Fukaya et al. 2020 (arXiv 1809.11085). Columns that the others
    span come out as nearly zero.
    """
    for _ in range(2):
        gram = x.mT @ x
        shift = (_SHIFT * gram.diagonal(dim1=-2, dim2=-1).sum(-1)).clamp_min(_SMALLEST)
        gram = gram + shift[..., None, None] * torch.eye(gram.shape[-1]).to(gram)
        root = torch.linalg.cholesky(gram)
        x = torch.linalg.solve_triangular(root, x.mT, upper=False).mT
    return x


def stack_layers(layers: Sequence[LoraLayer]) -> LoraLayer:
    """Return one layer whose update is the sum of all: factors concatenated along the rank."""
    return LoraLayer(
        down=torch.cat([layer.down.float() for layer in layers], dim=0),
        up=torch.cat([layer.up.float() for layer in layers], dim=1),
    )


def take_shares(adapter: Adapter, wanted: Sequence[int], count: int) -> Adapter:
    """Return the part of an adapter that some of its equal shares of the rank make up.

    Args:
        adapter: Made of `count` shares, in the order of `AdapterRecord.shares`.
        wanted: Their numbers, from 0.
        count: Divides the rank of every layer.
    """
    numbers = sorted(set(wanted))
    if len(numbers) == count:
        return adapter
    layers = {}
    for path, layer in adapter.layers.items():
        each = layer.down.shape[0] // count
        shares = [slice(n * each, (n + 1) * each) for n in numbers]
        if len(shares) == 1:  # a view: no thread has to compute
            layers[path] = LoraLayer(layer.down[shares[0]], layer.up[:, shares[0]])
        else:
            layers[path] = LoraLayer(
                torch.cat([layer.down[share] for share in shares]),
                torch.cat([layer.up[:, share] for share in shares], 1),
            )
    name = ",".join(map(str, numbers))
    return Adapter(f"{adapter.id}[{name}]", layers, adapter.model_fingerprint)


def nearest_share(shares: Sequence[tuple[int, int]], start: int, end: int) -> int:
    """Return the number of the share whose span of the text has most of another span."""
    overlaps = [min(last, end) - max(first, start) for first, last in shares]
    return overlaps.index(max(overlaps))


def _kept(part: Tensor, total: Tensor) -> float:
    return min(float(part) / float(total), 1.0) if float(total) else 1.0
