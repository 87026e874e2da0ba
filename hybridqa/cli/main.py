"""The command's entry point: global options and the groups of commands."""

from __future__ import annotations

import logging
import os
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from hybridqa.cli import adapters, bench, documents, evaluation, keys, questions, serve, train
from hybridqa.cli.session import BAD_INPUT, ConfigOption, HomeOption, JsonOption, show_error

app = typer.Typer(
    help="Ask a body of documents anything: from weights or from retrieval, with citations.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hybridqa {version('hybridqa')}")
        raise typer.Exit


@app.callback()
def options(
    home: HomeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options may stand here or after the command's name."""


documents.register(app)
questions.register(app)
adapters.register(app)
evaluation.register(app)
bench.register(app)
serve.register(app)
keys.register(app)
app.command("train")(train.train)


def main() -> None:
    """Run the command line."""
    # Progress bars and advice of the libraries underneath are noise to whoever asks a question.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("RAGAS_DO_NOT_TRACK", "true")
    if "transformers" in sys.modules:  # it read these variables when it was imported
        from transformers.utils import logging as progress

        progress.disable_progress_bar()
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s: %(message)s")
    logging.getLogger("hybridqa").setLevel(logging.WARNING)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(encoding="utf-8", errors="replace")
    if "--json" not in sys.argv:
        app()
    try:
        sys.exit(app(standalone_mode=False))
    except Exception as exc:  # Typer has its own copy of Click, so its errors have no public class
        if not hasattr(exc, "format_message"):
            raise
        show_error("UsageError", exc.format_message(), as_json=True)
        sys.exit(BAD_INPUT)
