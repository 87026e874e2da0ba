"""Teach a hypernetwork, and the adapters that go with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from hybridqa.models.base import BaseModel
from hybridqa.models.turns import Turns
from hybridqa.training.ahead import made_ahead
from hybridqa.training.batches import Batch, Lessons
from hybridqa.training.config import TrainConfig
from hybridqa.training.course import Measured
from hybridqa.training.evaluation import HeldOut
from hybridqa.training.learner import Learner
from hybridqa.training.losses import Marks, learn


class HypernetworkCourse:
    """A `Course`."""

    def __init__(self, learner: Learner, config: TrainConfig) -> None:
        """Read the data.

        Raises:
            ConfigError: It cannot be read.
        """
        self._learner, self._losses = learner, config.losses
        self._lessons, self._held_out = Lessons(learner.base, config), HeldOut(learner, config)
        self._ahead = made_ahead(config, self._lessons.__getitem__, _lessons)

    @property
    def turns(self) -> Turns:
        return self._learner.base.lock

    @property
    def passages(self) -> int:
        return self._lessons.passages

    def parameters(self) -> dict[str, nn.Parameter]:
        return self._learner.parameters()

    def adapter_parameters(self) -> Mapping[str, Any]:
        return self._learner.adapter_parameters()

    def prepare(self) -> None:
        pass

    def learn(self, number: int) -> tuple[Tensor, Marks]:
        return learn(self._learner, self._ahead[number].to(self._learner.base.device), self._losses)

    def measure(self, thorough: bool) -> Measured:
        """Return marks with the right, a wrong and no adapter, and with the passage in the prompt.

        The last only if `thorough`.
        """
        return self._held_out.measure(self._learner, thorough)

    def write_checkpoint(self, folder: Path) -> None:
        """Write what `internalize: hypernetwork:` takes."""
        self._learner.save(folder)


def _lessons(config: TrainConfig) -> Callable[[int], Batch]:
    base = BaseModel.from_checkpoint(config.model, config.dtype, config.device)
    return Lessons(base, config).__getitem__
