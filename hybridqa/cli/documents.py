"""`ingest` and `documents list|show|delete`."""

from __future__ import annotations

from enum import StrEnum
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
from hybridqa.types import AdapterState


class InternalizerName(StrEnum):
    associative = "associative"
    perceiver = "perceiver"
    refinement = "refinement"
    distillation = "distillation"
    none = "none"


def register(app: typer.Typer) -> None:
    app.command()(ingest)
    group = typer.Typer(help="What has been taken in.", no_args_is_help=True)
    group.command("list")(list_documents)
    group.command("show")(show_document)
    group.command("delete")(delete_document)
    app.add_typer(group, name="documents")


def ingest(
    context: typer.Context,
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", parser=as_path, help="Files and folders.")
    ],
    internalizer: Annotated[
        InternalizerName | None, typer.Option(help="How adapters are made; default: the config's.")
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", parser=as_path, help="Folder that document ids are relative to."
        ),
    ] = None,
    home: HomeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Index documents and internalize them into adapters.

    Unchanged documents are skipped, changed ones replaced; documents whose files are gone from
    the given folders are deleted.
    """
    session = Session.of(context, home, config, as_json)
    with reported(session.json), session.open() as qa:
        from hybridqa.serialize import ingested_dict

        with session.progress() as advance:
            advance("loading models", 0, 1)
            synced = qa.ingest_files(
                paths,
                internalizer.value if internalizer else None,
                root,
                lambda done, total, path: advance(path.name if path else "done", done, total),
            )
        rows = [ingested_dict(ingested) for ingested in synced.ingested]

        def render(console: Console) -> None:
            columns = ("status", "chunks", "adapter", "energy", "seconds")
            table = Table(Column("document", overflow="fold"), *columns)
            for row in rows:
                energy = f"{row['energy']:.3f}" if row["energy"] is not None else ""
                adapter = (row["adapter"] or "")[:12]
                seconds = f"{row['seconds']:.2f}"
                table.add_row(
                    escape(row["id"]), row["status"], str(row["chunks"]), adapter, energy, seconds
                )
            console.print(table)
            for row in rows:
                if row["warning"]:
                    console.print(f"No adapter: {row['warning']}", markup=False)
            for message in synced.skipped:
                console.print(f"Skipped: {message}", markup=False)
            for document_id in synced.removed:
                console.print(f"Deleted, as its file is gone: {document_id}", markup=False)

        data = {
            "documents": rows,
            "skipped": list(synced.skipped),
            "removed": list(synced.removed),
        }
        session.show(data, render)


def list_documents(
    context: typer.Context,
    home: HomeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List all documents with what the router thinks of them."""
    session = Session.of(context, home, config, as_json)
    with reported(session.json), session.open() as qa:
        summaries = qa.catalog.summaries()
        live = {adapter.document_id for adapter in qa.catalog.adapters(state=AdapterState.LIVE)}
        data = {
            "documents": [
                {
                    "id": s.id,
                    "title": s.title,
                    "chunks": s.chunks,
                    "volatility": round(s.signals.volatility.value, 4),
                    "citation_need": round(s.signals.citation_need.value, 4),
                    "adapter": s.id in live,
                    "modified_at": s.modified_at and s.modified_at.isoformat(),
                    "ingested_at": s.ingested_at.isoformat(),
                }
                for s in summaries
            ]
        }

        def render(console: Console) -> None:
            columns = ("chunks", "volatility", "citation need", "adapter")
            table = Table(Column("document", overflow="fold"), *columns)
            for s in summaries:
                table.add_row(
                    escape(s.id),
                    str(s.chunks),
                    f"{s.signals.volatility.value:.2f}",
                    f"{s.signals.citation_need.value:.2f}",
                    "live" if s.id in live else "",
                )
            console.print(table)

        session.show(data, render)


def show_document(
    context: typer.Context,
    document_id: Annotated[str, typer.Argument(metavar="ID")],
    home: HomeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one document: text, history, signals and their reasons."""
    session = Session.of(context, home, config, as_json)
    with reported(session.json), session.open() as qa:
        from hybridqa.serialize import adapter_dict, document_dict

        record = qa.catalog.get(document_id)
        data = document_dict(record, text=True)
        data["adapters"] = [adapter_dict(a) for a in qa.catalog.adapters(document_id)]

        def render(console: Console) -> None:
            for name in ("id", "title", "source", "content_hash", "modified_at", "modified_by"):
                console.print(f"{name:>14}  {data[name]}", markup=False, highlight=False)
            for name in ("volatility", "citation_need"):
                reasons = "; ".join(data[name]["reasons"])
                console.print(f"{name:>14}  {data[name]['value']:.2f}  {reasons}", markup=False)
            for adapter in data["adapters"]:
                console.print(f"       adapter  {adapter['id'][:12]} {adapter['state']}")
            console.print(f"\n{data['text']}", markup=False, highlight=False)

        session.show(data, render)


def delete_document(
    context: typer.Context,
    document_id: Annotated[str, typer.Argument(metavar="ID")],
    home: HomeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete a document with its chunks and adapters."""
    session = Session.of(context, home, config, as_json)
    with reported(session.json), session.open() as qa:
        qa.catalog.get(document_id)  # an unknown id is told before any model is loaded
        removed = qa.delete(document_id)

        def render(console: Console) -> None:
            console.print(f"Deleted {document_id} and {len(removed)} adapters.", markup=False)

        session.show({"deleted": document_id, "adapters": removed}, render)
