"""`bench`, `bench serve` and `bench internalize`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from hybridqa.cli.session import (
    ConfigOption,
    HomeOption,
    JsonOption,
    MarkdownOption,
    Session,
    comma_separated,
    reported,
    whole_numbers,
)

if TYPE_CHECKING:
    from hybridqa.eval.speed import SpeedReport

QuickOption = Annotated[bool, typer.Option(help="Small sizes: does it run?")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(invoke_without_command=True)
    group.callback()(bench)
    group.command("serve")(serve)
    group.command("internalize")(internalize)
    app.add_typer(group, name="bench")


def bench(
    context: typer.Context,
    only: Annotated[
        str | None, typer.Option(metavar="ROWS", help="Comma-separated rows; default: all.")
    ] = None,
    quick: QuickOption = False,
    markdown: MarkdownOption = False,
    home: HomeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure speed and memory as ratios of two things timed side by side.

    Leave the machine alone meanwhile.
    """
    if context.invoked_subcommand is not None:
        return
    session = Session.of(context, home, config, as_json)
    with reported(session.json):
        from hybridqa.eval import speed

        chosen = comma_separated(only or "")
        with session.progress() as advance:
            advance("loading models", 0, 1)
            result = speed.run_speed(session.config(), chosen, quick, advance)
        _show(session, result, markdown)


def serve(
    context: typer.Context,
    minutes: Annotated[
        float, typer.Option(min=0, metavar="M", help="Of the soak; 0 leaves it out.")
    ] = 10.0,
    quick: QuickOption = False,
    markdown: MarkdownOption = False,
    home: HomeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the REST service: against the engine in process, with 16 clients, and for long.

    Leave the machine alone meanwhile.
    """
    session = Session.of(context, home, config, as_json)
    with reported(session.json):
        from hybridqa.eval.serving import run_serving

        with session.progress() as advance:
            advance("starting the service", 0, 1)
            result = run_serving(session.config(), minutes, quick, advance)
        _show(session, result, markdown)


def internalize(
    context: typer.Context,
    tokens: Annotated[
        str, typer.Option(metavar="N,...", help="Lengths of the documents, in the model's tokens.")
    ] = "256,1024,4096,16384,32768,65536,131072",
    repeats: Annotated[int, typer.Option(metavar="N", help="Rounds that are timed.")] = 3,
    distil_tokens: Annotated[
        int, typer.Option(metavar="N", help="Of a document to distil, minutes; 0 leaves it out.")
    ] = 256,
    memory: Annotated[
        bool, typer.Option(help="Measure it, each pass in a process of its own.")
    ] = True,
    seed: Annotated[int, typer.Option(metavar="S")] = 0,
    markdown: MarkdownOption = False,
    home: HomeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure what taking in a document costs, by its length: time, memory, bytes.

    Relative to the base model reading the same text. Leave the machine alone meanwhile.
    """
    session = Session.of(context, home, config, as_json)
    with reported(session.json):
        from hybridqa.eval.speed.sizes import SizesPlan, run_sizes
        from hybridqa.eval.speed.sizes_report import grids

        plan = SizesPlan(
            tokens=whole_numbers(tokens, "--tokens"),
            repeats=repeats,
            distil_tokens=distil_tokens,
            memory=memory,
            seed=seed,
        )
        with session.progress() as advance:
            advance("loading models", 0, 1)
            result = run_sizes(session.config(), plan, advance)
        session.show_grids(result.as_dict(), grids(result), markdown)


def _show(session: Session, result: SpeedReport, markdown: bool) -> None:
    from hybridqa.eval import speed

    def render(console: Console) -> None:
        if markdown:
            typer.echo(speed.markdown(result))
        else:
            console.print(speed.table(result))

    session.show(result.as_dict(), render)
