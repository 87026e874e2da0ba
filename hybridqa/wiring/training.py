"""A training run from its settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hybridqa.errors import ConfigError
from hybridqa.wiring.models import EMBEDDED_CHECKPOINTS

if TYPE_CHECKING:
    from hybridqa.training.config import TrainConfig
    from hybridqa.training.run import Run


def training_run(plan: TrainConfig, folder: Path, resume: bool) -> Run:
    """Load the model and what is to be trained.

    Args:
        plan: What to do.
        folder: Of the run.
        resume: Whether the folder may hold a run, which is gone on with.

    Raises:
        ConfigError: It holds one and may not, or something named in the plan is missing or unfit.
        ModelError: The model or the checkpoint that it starts from cannot be loaded.
    """
    from hybridqa.models.base import BaseModel
    from hybridqa.training.learner import Learner
    from hybridqa.training.run import LOG, Run

    if (folder / LOG).exists() and not resume:
        raise ConfigError(
            f"`{folder}` holds a run already. Give --resume to go on with it, or another folder."
        )
    base = BaseModel.from_checkpoint(plan.model, plan.dtype, plan.device)
    start = EMBEDDED_CHECKPOINTS / "associative" if plan.start == "embedded" else Path(plan.start)
    learner = base.lock.run(lambda: Learner.start(start, base, plan.network, plan.seed))
    return Run(folder, learner, plan)
