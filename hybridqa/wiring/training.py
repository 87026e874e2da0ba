"""A training run from its settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hybridqa.errors import ConfigError
from hybridqa.wiring.models import EMBEDDED_CHECKPOINTS

if TYPE_CHECKING:
    from hybridqa.models.base import BaseModel
    from hybridqa.training.config import TrainConfig
    from hybridqa.training.course import Course
    from hybridqa.training.run import Run


def training_run(plan: TrainConfig, folder: Path, resume: bool) -> Run:
    """Load the model and what is to be trained; meet the other processes, if there are any.

    Args:
        plan: What to do.
        folder: Of the run.
        resume: Whether the folder may hold a run, which is gone on with.

    Raises:
        ConfigError: It holds one and may not, or something named in the plan is missing or unfit.
        ModelError: The model or the checkpoint that it starts from cannot be loaded.
    """
    from hybridqa.models.base import BaseModel
    from hybridqa.training.peers import Peers
    from hybridqa.training.run import LOG, Run

    if (folder / LOG).exists() and not resume:
        raise ConfigError(
            f"`{folder}` holds a run already. Give --resume to go on with it, or another folder."
        )
    plan = replace(plan, device=Peers().device(plan.device))
    if plan.locator is not None:
        from hybridqa.training.locating import LocatorCourse

        return Run(folder, LocatorCourse(plan), plan)
    base = BaseModel.from_checkpoint(plan.model, plan.dtype, plan.device)
    return Run(folder, base.lock.run(lambda: _course(plan, base)), plan)


def _course(plan: TrainConfig, base: BaseModel) -> Course:
    from hybridqa.stores.task_adapters import load_task_adapter
    from hybridqa.training.associative import AssociativeLearner
    from hybridqa.training.internalizing import HypernetworkCourse
    from hybridqa.training.perceiver import PerceiverLearner
    from hybridqa.training.reading import ReaderCourse

    def start(embedded: str) -> Path:
        return EMBEDDED_CHECKPOINTS / embedded if plan.start == "embedded" else Path(plan.start)

    if plan.perceiver is not None:
        folder = None if plan.start == "embedded" else Path(plan.start)
        task = perceivers_task_adapter(plan)
        return HypernetworkCourse(
            PerceiverLearner.start(
                folder, base, plan.perceiver, plan.passage_tokens, task, plan.seed
            ),
            plan,
        )
    if plan.network is None:
        reader = load_task_adapter(start("reader"), base.fingerprint)
        return ReaderCourse(base, reader.layers, plan)
    learner = AssociativeLearner.start(
        start("associative"), base, plan.network, plan.seed, _given(plan)
    )
    return HypernetworkCourse(learner, plan)


def perceivers_task_adapter(plan: TrainConfig) -> Path:
    """Return the folder of the task adapter that a Perceiver begins with."""
    from hybridqa.internalize.associative import TASK_ADAPTER

    own = None if plan.start == "embedded" else Path(plan.start) / TASK_ADAPTER
    return _given(plan) or own or EMBEDDED_CHECKPOINTS / "reader"


def _given(plan: TrainConfig) -> Path | None:
    if plan.task_adapter == "embedded":
        return EMBEDDED_CHECKPOINTS / "reader"
    return None if plan.task_adapter is None else Path(plan.task_adapter)
