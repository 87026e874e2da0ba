"""`eval dashboard` and `eval serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hybridqa.cli.listening import announce, listen
from hybridqa.cli.session import JsonOption, Session, as_path, reported
from hybridqa.errors import InputError


def register(group: typer.Typer) -> None:
    group.command("dashboard")(dashboard)
    group.command("serve")(serve)


def dashboard(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.", parser=as_path)],
    out: Annotated[Path, typer.Option(metavar="FILE", parser=as_path, help="HTML file to write.")],
    against: Annotated[
        Path | None,
        typer.Option(metavar="RUN", parser=as_path, help="An earlier run to compare with."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a run as one HTML file that opens offline: which arm to use, why, every answer."""
    session = Session.of(context, None, None, as_json)
    with reported(session.json):
        from hybridqa.eval.dashboard import write_page
        from hybridqa.eval.runs import read_run
        from hybridqa.eval.summary import summarize

        read = [read_run(folder) for folder in (run, against) if folder is not None]
        (one, its), *before = [(each, summarize(each).as_dict()) for each in read]
        size = write_page(out, one, its, before[0] if before else None)
        session.show(
            {"file": str(out), "bytes": size},
            lambda console: console.print(
                f"{out} ({size / 1e6:.1f} MB): open it in a browser.", markup=False, soft_wrap=True
            ),
        )


def serve(
    context: typer.Context,
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A run, or a folder of runs.", parser=as_path)
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 8000,
    as_json: JsonOption = False,
) -> None:
    """Show runs in the browser, read anew whenever they change. Ctrl-C ends it."""
    session = Session.of(context, None, None, as_json)
    with reported(session.json):
        try:
            import uvicorn

            from hybridqa.api.dashboard import create_dashboard
        except ImportError as exc:
            raise InputError(
                f"`{exc.name}` is not installed. Run `pip install 'hybridqa[serve]'`."
            ) from exc

        app = create_dashboard(folder)
        listening = listen(host, port)
        announce(session, f"Serving {folder}", host, listening)
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])
