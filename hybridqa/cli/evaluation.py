"""`eval qa` and `fetch`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from hybridqa.cli import dashboard, probes, replay, runs, weights
from hybridqa.cli.session import (
    ConfigOption,
    HomeOption,
    JsonOption,
    MarkdownOption,
    Session,
    comma_separated,
    reported,
)
from hybridqa.errors import InputError


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Measure quality, with controls.", no_args_is_help=True)
    group.callback()(_evaluations)
    runs.register(group)
    group.command("qa")(qa)
    dashboard.register(group)
    replay.register(group)
    probes.register(group)
    weights.register(group)
    app.add_typer(group, name="eval")
    app.command()(fetch)


def _evaluations() -> None:
    """Measure quality, with controls."""


def qa(
    context: typer.Context,
    data: Annotated[
        str, typer.Option(metavar="FILE|DIR|hub:ID", help="Questions; see `eval run`.")
    ],
    arms: Annotated[
        str, typer.Option(help="Comma-separated; `auto` is the router.")
    ] = "base,context,adapter,wrong-adapter,retrieval,both",
    limit: Annotated[int | None, typer.Option(metavar="N", help="Most questions.")] = None,
    seed: Annotated[int, typer.Option(metavar="S")] = 0,
    rows: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write every answer as JSON Lines.")
    ] = None,
    markdown: MarkdownOption = False,
    home: HomeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare arms quickly, nothing kept: F1, exact match and ROUGE-L with 95 % intervals.

    Only answerable questions are asked, and only the documents asked about are searched.
    """
    session = Session.of(context, home, config, as_json)
    with reported(session.json):
        from hybridqa.eval import report
        from hybridqa.eval.qa import run_qa
        from hybridqa.stores.disk import disk_errors

        if rows is not None and not rows.parent.is_dir():
            raise InputError(f"`{rows}` cannot be written: there is no folder `{rows.parent}`.")
        names = comma_separated(arms)
        with session.progress() as advance:
            advance("loading models", 0, 1)
            result = run_qa(session.config(), data, names, limit, seed, progress=advance)
        if rows is not None:
            lines = (json.dumps(row, ensure_ascii=False) for row in result.rows())
            with disk_errors("write the answers", rows):
                rows.write_text("\n".join(lines) + "\n", encoding="utf-8")

        def render(console: Console) -> None:
            if markdown:
                typer.echo(report.markdown(result))
                return
            console.print(report.table(result))
            console.print(report.differences(result))

        session.show(result.as_dict(), render)


def fetch(
    context: typer.Context,
    home: HomeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Download the embedded models once, so that later commands work offline."""
    session = Session.of(context, home, config, as_json)
    with reported(session.json):
        from hybridqa.models.embedder import SentenceTransformerEmbedder
        from hybridqa.models.fetch import fetch_embedded_model

        with session.progress() as advance:
            advance("fetching the language model", 0, 2)
            folder = fetch_embedded_model()
            advance("fetching the embedder", 1, 2)
            SentenceTransformerEmbedder.from_checkpoint("embedded")
            advance("done", 2, 2)

        def render(console: Console) -> None:
            console.print(f"The embedded model is in {folder}.", markup=False)

        session.show({"model": str(folder)}, render)
