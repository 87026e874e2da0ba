"""The processes that a training run is spread over: one for each GPU, or for some cores."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from accelerate import PartialState


class Peers:
    """Those that learn the same from different batches, and share their gradients.

    `accelerate launch` and `torchrun` start them; else a process is its only peer, and nothing is
    sent. All must call the methods below in the same order.
    """

    @cached_property
    def count(self) -> int:
        """How many there are."""
        return int(os.environ.get("WORLD_SIZE", "1"))

    @cached_property
    def number(self) -> int:
        """Of this one, from 0 on."""
        return int(os.environ.get("RANK", "0")) if self.count > 1 else 0

    @property
    def first(self) -> bool:
        """Whether this is the one that evaluates, writes files and tells how it goes."""
        return self.number == 0

    def device(self, wanted: str) -> str:
        """Meet the others; return the device that is this one's own.

        Args:
            wanted: As in a config, `auto` or torch's name for it, the number of a GPU left out.
        """
        if self.count == 1:
            return wanted
        own = self._state(cpu=wanted == "cpu").device
        return str(own) if own.type == "cuda" else own.type

    def batch(self, step: int) -> int:
        """Return the number of the batch that this one learns from."""
        return step * self.count + self.number

    def share(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace gradients by their means; one that some lack counts as zero there."""
        if self.count == 1:
            return
        from accelerate.utils import reduce

        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        grads = [p.grad for p in parameters if p.grad is not None]
        mean = reduce(torch.cat([grad.flatten() for grad in grads]), "mean")
        assert isinstance(mean, Tensor)
        for grad, own in zip(grads, mean.split([g.numel() for g in grads]), strict=True):
            grad.copy_(own.view_as(grad))

    def agree(self, tensors: Iterable[Tensor]) -> None:
        """Replace the tensors by those of the first."""
        if self.count == 1:
            return
        from accelerate.utils import broadcast

        with torch.no_grad():
            for tensor in tensors:
                broadcast(tensor)

    def agreed(self, value: float) -> float:
        """Return the first's number."""
        if self.count == 1:
            return value
        told = torch.tensor([value], dtype=torch.float64, device=self._state().device)
        self.agree([told])
        return float(told)

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.count > 1:
            self._state().wait_for_everyone()

    def _state(self, cpu: bool = False) -> PartialState:
        from accelerate import PartialState

        return PartialState(cpu=cpu)  # the process's only one
