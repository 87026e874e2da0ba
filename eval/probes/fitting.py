"""Fit a few weights: what `weigh`, `relevance` and `unanswerable` have in common."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_STEPS = 200
_SHRINKAGE = 1e-5


def minimized(loss: Callable[[Tensor], Tensor], size: int) -> Tensor:
    """Return the weights, float64 of shape (size,), that make a loss smallest, from zero on.

    Args:
        loss: A convex function of them.
        size: Their number.
    """
    weights = torch.zeros(size, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def step() -> Tensor:
        optimizer.zero_grad()
        with torch.enable_grad():
            found = loss(weights)
            found.backward()
        return found

    optimizer.step(step)
    return weights.detach()


def logistic(table: Tensor, holds: Tensor, shares: Tensor) -> Tensor:
    """Return the weights, float64 of shape (features,), of a logistic regression, slightly shrunk.

    Args:
        table: Features by case, float64 of shape (cases, features); the last one is a bias.
        holds: 1 where it holds and 0 where not, float64 of shape (cases,).
        shares: How much each case counts, likewise.
    """

    def loss(weights: Tensor) -> Tensor:
        missed = torch.nn.functional.binary_cross_entropy_with_logits(
            table @ weights, holds, shares, reduction="sum"
        )
        return missed / shares.sum() + _SHRINKAGE * weights[:-1].square().mean()

    return minimized(loss, table.shape[1])
