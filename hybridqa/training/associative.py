"""Teach the associative hypernetwork, and the adapters that go with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from hybridqa.internalize.associative import TASK_ADAPTER
from hybridqa.internalize.checkpoint import save_checkpoint
from hybridqa.internalize.places import save_projections
from hybridqa.models.base import BaseModel
from hybridqa.stores.places import write_query
from hybridqa.training.batches import Lessons
from hybridqa.training.config import TrainConfig
from hybridqa.training.course import Measured
from hybridqa.training.evaluation import HeldOut
from hybridqa.training.learner import Learner
from hybridqa.training.losses import Marks, learn
from hybridqa.training.places import fit_places
from hybridqa.training.task_adapter import write_task_adapter

_FITTED = 24
"""Batches by which pointing begins."""


class AssociativeCourse:
    """A `Course`."""

    def __init__(self, learner: Learner, config: TrainConfig) -> None:
        """Read the data.

        Raises:
            ConfigError: It cannot be read.
        """
        self._learner, self._losses = learner, config.losses
        self._lessons, self._held_out = Lessons(learner.base, config), HeldOut(learner, config)

    @property
    def base(self) -> BaseModel:
        return self._learner.base

    @property
    def passages(self) -> int:
        return self._lessons.passages

    def parameters(self) -> dict[str, nn.Parameter]:
        return self._learner.parameters()

    def adapter_parameters(self) -> Mapping[str, Any]:
        return self._learner.adapter_parameters()

    def prepare(self) -> None:
        """Begin to point to places as the keys do, if the checkpoint did not point."""
        if not self._learner.finds_places:
            fit_places(self._learner, (self._lessons[-n] for n in range(1, _FITTED + 1)))

    def learn(self, step: int) -> tuple[Tensor, Marks]:
        return learn(self._learner, self._lessons[step], self._losses)

    def measure(self, thorough: bool) -> Measured:
        """Return marks with the right, a wrong and no adapter, and with the passage in the prompt.

        The last only if `thorough`.
        """
        return self._held_out.measure(self._learner, thorough)

    def write_checkpoint(self, folder: Path) -> None:
        """Write what `internalize: hypernetwork:` takes."""
        save_checkpoint(folder, self._learner.network)
        for name, layers in self._learner.adapters().items():
            write_task_adapter(folder / name, layers, self.base)
        pointing = list(self._learner.pointing().items())
        by_layer = zip(self._learner.config.layers, pointing, strict=True)
        save_projections(folder, {n: keys.detach().bfloat16() for n, (_, (keys, _)) in by_layer})
        query = {path: q.detach().bfloat16() for path, (_, q) in pointing}
        write_query(folder / TASK_ADAPTER, query)
