"""`eval replay`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from hybridqa.cli.session import (
    ConfigOption,
    HomeOption,
    JsonOption,
    MarkdownOption,
    Session,
    as_path,
    reported,
)


def register(group: typer.Typer) -> None:
    group.command("replay")(replay)


def replay(
    context: typer.Context,
    policy: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="The policy to try: its name or YAML file.")
    ],
    log: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=as_path,
            help="A question log; default: `questions.jsonl` of the home.",
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            parser=as_path,
            help="An evaluation run of these questions, which knows what is right.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="S")] = 0,
    markdown: MarkdownOption = False,
    home: HomeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Try a policy on the questions that were asked: what would change, and for better or worse?

    No model is asked: answers come from the log, and from an evaluation run if one is given.
    """
    session = Session.of(context, home, config, as_json)
    with reported(session.json):
        from hybridqa.eval.replay import replay as run_replay
        from hybridqa.eval.runs import read_run
        from hybridqa.stores.question_log import read_log
        from hybridqa.wiring import load_policy

        report = run_replay(
            read_log(log or session.home / "questions.jsonl"),
            load_policy(policy),
            read_run(run) if run else None,
            seed,
        )

        def render(console: Console) -> None:
            if markdown:
                typer.echo(report.markdown(), nl=False)
            else:
                console.print(report.table())

        session.show(report.as_dict(), render)
