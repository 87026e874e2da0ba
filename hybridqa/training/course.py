"""What a run needs of what is taught."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from hybridqa.models.turns import Turns
from hybridqa.training.losses import Marks

Measured = dict[str, dict[str, dict[str, float]]]
"""Marks by held-out set and arm."""


class Course(Protocol):
    """Something to learn, with its lessons and examinations."""

    @property
    def turns(self) -> Turns:
        """In which all computing is done."""
        ...

    @property
    def passages(self) -> int:
        """How many there are to draw from."""
        ...

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return all that is trained, by name."""
        ...

    def adapter_parameters(self) -> Mapping[str, Any]:
        """Return those that are factors of LoRAs, which learn at a rate of their own."""
        ...

    def prepare(self) -> None:
        """Compute, before the first step, what is to begin with."""
        ...

    def learn(self, number: int) -> tuple[Tensor, Marks]:
        """Return the loss of a batch, with gradients, and its marks.

        Batches are functions of their number alone; there is no end of them.
        """
        ...

    def measure(self, thorough: bool) -> Measured:
        """Return marks on held-out sets; arms that hardly change only if `thorough`."""
        ...

    def write_checkpoint(self, folder: Path) -> None:
        """Write what is to be used, into a new folder."""
        ...
