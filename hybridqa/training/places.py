"""Begin to point to places: short keys and queries whose product is nearly that of long ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from hybridqa.training.batches import Batch
from hybridqa.training.learner import Learner

_SHRUNK = 0.3
"""Of a second moment of questions, which are few, towards its diagonal's mean."""
_LEAST = 1e-4
"""Eigenvalues below this share of the largest count as this."""
_EXTRA = 20
"""Dimensions more than wanted in a randomized SVD: Halko et al. 2011 (arXiv 0909.4061)."""


@torch.no_grad()
def fit_places(learner: Learner, batches: Iterable[Batch]) -> None:
    """Set a learner's projections so that short keys rank tokens nearly as the keys do.

    Of all products of short keys and queries, the best: the truncated SVD of the long ones' product
    where both have been whitened, first by layer, then for all layers together.

    Args:
        learner: Its network's keys are to be shortened.
        batches: Passages and questions to fit to.
    """
    keys, asked = _collected(learner, batches)
    sharp = torch.exp(learner.network.span_temperature.detach().float())
    layers, width = range(len(learner.place_keys)), learner.place_width
    firsts = [_best(keys[n], asked[n], width) for n in layers]
    short = torch.cat([keys[n].float() @ firsts[n][0] for n in layers], 1)
    query = torch.cat([asked[n].float() @ firsts[n][1] * sharp[n] for n in layers], 1)
    down, up = _best(short, query, width)
    parts = zip(layers, down.split(width), up.split(width), firsts, strict=True)
    for path, (n, k, q, first) in zip(learner.place_keys, parts, strict=True):
        learner.set_pointing(path, first[0] @ k, first[1] @ q * sharp[n] / len(layers))


def _collected(learner: Learner, batches: Iterable[Batch]) -> tuple[list[Tensor], list[Tensor]]:
    """Return, by target layer, keys (tokens, d_in) less their passage's mean, and queries."""
    keys: list[list[Tensor]] = [[] for _ in learner.place_keys]
    asked: list[list[Tensor]] = [[] for _ in learner.place_keys]
    for batch in batches:
        written = learner.write(batch)
        _, inputs = learner.ask(batch, written)
        row, place = batch.lookups[batch.first[tuple(batch.lookups.T)]].T
        real = batch.chunk_mask.bool()
        weight = batch.chunk_mask[..., None].float()
        for n, key in enumerate(written[0]):
            mean = (key.float() * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
            keys[n].append((key.float() - mean)[real].bfloat16())
            asked[n].append(inputs[n][row, place].bfloat16())
    return [torch.cat(parts) for parts in keys], [torch.cat(parts) for parts in asked]


def _best(keys: Tensor, asked: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Return projections (d_in, width) of keys and queries: the best product of that rank."""
    of_keys, of_asked = _moment(keys), _moment(asked)
    diagonal = torch.diag_embed(of_asked.diagonal().mean().expand(len(of_asked)))
    of_asked = (1 - _SHRUNK) * of_asked + _SHRUNK * diagonal
    left, left_inverse = _roots(of_asked)
    right, right_inverse = _roots(of_keys)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        u, s, v = torch.svd_lowrank(left @ right, q=min(width + _EXTRA, len(of_keys)), niter=4)
    u, s, v = u[:, :width], s[:width].sqrt(), v[:, :width]
    return right_inverse @ v * s, left_inverse @ u * s


def _moment(rows: Tensor, size: int = 4096) -> Tensor:
    total = torch.zeros(rows.shape[1], rows.shape[1], device=rows.device)
    for part in rows.split(size):
        total += part.float().T @ part.float()
    return total / len(rows)


def _roots(moment: Tensor) -> Sequence[Tensor]:
    """Return a symmetric matrix's square root and its inverse."""
    values, vectors = torch.linalg.eigh(moment.double())
    values = values.clamp(min=_LEAST * float(values.max())).sqrt()
    return [((vectors * v) @ vectors.T).float() for v in (values, 1 / values)]
