"""`hybridqa train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hybridqa.cli.session import JsonOption, Session, as_path, reported


def train(
    context: typer.Context,
    config: Annotated[
        Path, typer.Option(metavar="YAML", parser=as_path, help="As in configs/train.")
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", parser=as_path, help="Of the state, log and checkpoint.")
    ],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with what is in DIR, to the config's last step.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a hypernetwork, a reader or a locator; can be stopped and gone on with at any time.

    DIR/checkpoint is what `internalize: hypernetwork:`, `model: reader:` or `internalize: locator:`
    takes; DIR/curves.png shows how it went.
    """
    session = Session.of(context, None, None, as_json)
    with reported(session.json):
        from hybridqa.config import load_yaml
        from hybridqa.training.config import TrainConfig
        from hybridqa.wiring.training import training_run

        run = training_run(load_yaml(TrainConfig, config), out, resume)
        if not run.told:
            for _ in run.train():
                pass
            return
        with session.progress() as advance:
            advance("evaluating", run.step, run.last_step)
            for step, marks in run.train():
                label = f"loss {marks.loss:.2f}, first token right {marks.first:.2f}"
                advance(label, step, run.last_step)
        session.show(
            {"step": run.step, "passages": run.passages, "checkpoint": str(run.checkpoint)},
            lambda console: console.print(
                f"Step {run.step}, {run.passages} passages to draw from: {run.checkpoint}"
            ),
        )
