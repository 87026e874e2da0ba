"""Fit a few weights: what `weigh` and `relevance` have in common."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_STEPS = 200


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
