"""`adapters list|show|export|convert-checkpoint`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from hybridqa.cli.session import (
    ConfigOption,
    HomeOption,
    JsonOption,
    Session,
    as_path,
    reported,
)


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Documents in the form of weights.", no_args_is_help=True)
    group.command("list")(list_adapters)
    group.command("show")(show_adapter)
    group.command("export")(export_adapter)
    group.command("convert-checkpoint")(convert_checkpoint)
    app.add_typer(group, name="adapters")


def list_adapters(
    context: typer.Context,
    home: HomeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List all adapters, live and retired, newest first."""
    session = Session.of(context, home, config, as_json)
    with reported(session.json), session.open() as qa:
        from hybridqa.serialize import adapter_dict

        records = qa.catalog.adapters()

        def render(console: Console) -> None:
            columns = ("made by", "rank", "energy", "KiB", "state")
            table = Table("adapter", Column("document", overflow="fold"), *columns)
            for r in records:
                size, energy = f"{r.size_bytes / 1024:.0f}", f"{r.energy:.3f}"
                table.add_row(
                    r.id[:12],
                    escape(r.document_id),
                    r.internalizer,
                    str(r.rank),
                    energy,
                    size,
                    r.state,
                )
            console.print(table)

        session.show({"adapters": [adapter_dict(record) for record in records]}, render)


def show_adapter(
    context: typer.Context,
    adapter_id: Annotated[str, typer.Argument(metavar="ID", help="Or its first 8 digits.")],
    home: HomeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one adapter: what it was made from, by what, and how well."""
    session = Session.of(context, home, config, as_json)
    with reported(session.json), session.open() as qa:
        from hybridqa.serialize import adapter_dict

        data = adapter_dict(qa.catalog.adapter(adapter_id))

        def render(console: Console) -> None:
            for name, value in data.items():
                console.print(f"{name:>24}  {value}", markup=False, highlight=False)

        session.show(data, render)


def export_adapter(
    context: typer.Context,
    adapter_id: Annotated[str, typer.Argument(metavar="ID", help="Or its first 8 digits.")],
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", parser=as_path, help="New folder to write.")
    ],
    part: Annotated[
        int | None,
        typer.Option(metavar="N", help="One of its parts, from 0 on (`adapters show`: shares)."),
    ] = None,
    rank: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Of all modules: vLLM knows one rank only, of those it has."
        ),
    ] = None,
    file_format: Annotated[
        str, typer.Option("--format", metavar="peft|gguf", help="gguf: for llama.cpp.")
    ] = "peft",
    home: HomeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write an adapter, with the task adapter under it, for PEFT, vLLM or llama.cpp."""
    session = Session.of(context, home, config, as_json)
    with reported(session.json), session.open() as qa:
        record = qa.export_adapter(
            adapter_id, folder, part=part, rank=rank, file_format=file_format
        )

        def render(console: Console) -> None:
            console.print(f"Wrote {record.id[:12]} to {folder}.", markup=False)
            if part is None and len(record.shares) > record.good_shares:
                console.print(
                    f"It has {len(record.shares)} parts, each made of another piece of the "
                    f"document. More than {record.good_shares} at a time disturb each other; "
                    "questions are answered here with those that bear on them. Export one by "
                    "--part.",
                    markup=False,
                    highlight=False,
                )

        session.show({"id": record.id, "folder": str(folder)}, render)


def convert_checkpoint(
    context: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", parser=as_path, help="A published checkpoint's pytorch_model.bin."
        ),
    ],
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", parser=as_path, help="New folder to write.")
    ],
    chunk_tokens: Annotated[
        int, typer.Option(min=16, help="Longest chunk of a document, as it was trained on.")
    ] = 512,
    home: HomeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Turn a pickled Doc-to-LoRA hypernetwork into a folder for `internalize: hypernetwork`.

    Nothing in the pickle is run. The config must name the base model that it was trained for.
    """
    session = Session.of(context, home, config, as_json)
    with reported(session.json):
        from hybridqa.internalize.convert import convert_checkpoint
        from hybridqa.wiring.models import Models

        made = convert_checkpoint(source, folder, Models(session.config()).base, chunk_tokens)
        data = {"folder": str(folder), "kind": "perceiver", "encoder": made.encoder}

        def render(console: Console) -> None:
            console.print(
                f"Wrote {folder}. To use it, set `internalize: internalizer:` to `perceiver` and "
                "`hypernetwork:` to this folder.",
                markup=False,
            )

        session.show(data, render)
