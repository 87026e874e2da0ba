"""`hybridqa train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hybridqa.cli.session import as_path, reported


def train(
    config: Annotated[
        Path, typer.Option(metavar="YAML", parser=as_path, help="As in configs/train.")
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", parser=as_path, help="Of the state, log and checkpoint.")
    ],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with what is in DIR, to the config's last step.")
    ] = False,
) -> None:
    """Train the associative hypernetwork; can be stopped and gone on with at any time."""
    with reported(False):
        from tqdm import tqdm

        from hybridqa.config import load_yaml
        from hybridqa.errors import ConfigError
        from hybridqa.models.base import BaseModel
        from hybridqa.training.config import TrainConfig
        from hybridqa.training.learner import Learner
        from hybridqa.training.run import LOG, Run
        from hybridqa.wiring.models import EMBEDDED_CHECKPOINTS

        plan = load_yaml(TrainConfig, config)
        if (out / LOG).exists() and not resume:
            raise ConfigError(
                f"`{out}` holds a run already. Give --resume to go on with it, or another folder."
            )
        base = BaseModel.from_checkpoint(plan.model, plan.dtype, plan.device)
        embedded = plan.start == "embedded"
        start = EMBEDDED_CHECKPOINTS / "associative" if embedded else Path(plan.start)
        learner = base.lock.run(lambda: Learner.start(start, base, plan.network, plan.seed))
        run = Run(out, learner, plan)
        typer.echo(f"{run.passages} passages; from step {run.step} to {plan.steps}", err=True)
        with tqdm(total=plan.steps, initial=run.step, unit="step") as bar:
            for _, marks in run.train():
                bar.update()
                bar.set_postfix(loss=f"{marks.loss:.2f}", first=f"{marks.first:.2f}")
