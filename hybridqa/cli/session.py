"""What all commands share: options, output, and turning errors into exit codes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from hybridqa.errors import HybridQAError

if TYPE_CHECKING:
    from hybridqa.config import Config
    from hybridqa.wiring import HybridQA

ABSTAINED, BAD_INPUT = 3, 2

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", metavar="DIR", help="Where documents, index and adapters are kept."),
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings; see configs/.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@dataclass(frozen=True)
class Session:
    """The options in force, whether given before or after the command's name."""

    home: Path
    config_path: Path | None
    json: bool

    @classmethod
    def of(
        cls, context: typer.Context, home: Path | None, config: Path | None, as_json: bool
    ) -> Session:
        outer = context.find_root().params
        chosen = home or outer.get("home") or os.environ.get("HYBRIDQA_HOME")
        if chosen is None:
            from platformdirs import user_data_path

            chosen = user_data_path("hybridqa")
        return cls(
            Path(chosen), config or outer.get("config"), as_json or bool(outer.get("as_json"))
        )

    @property
    def console(self) -> Console:
        return Console()

    def config(self) -> Config:
        from hybridqa.config import Config, load_yaml

        return load_yaml(Config, self.config_path) if self.config_path else Config()

    @contextmanager
    def open(self) -> Iterator[HybridQA]:
        """Open the home directory for this command."""
        from hybridqa.wiring import HybridQA

        with HybridQA(self.home, self.config()) as qa:
            yield qa

    def show(self, data: Any, render: Callable[[Console], None]) -> None:
        """Print `data` as JSON, or let `render` draw it for people."""
        if self.json:
            sys.stdout.write(json.dumps(data, ensure_ascii=False) + "\n")
        else:
            render(self.console)

    @contextmanager
    def progress(self) -> Iterator[Callable[[str, int, int], None]]:
        """Show a progress bar on standard error; the function takes label, done and total."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        console = Console(stderr=True)
        with Progress(*columns, console=console, transient=True, disable=self.json) as bar:
            task = bar.add_task("", total=None)
            yield lambda label, done, total: bar.update(
                task, description=label, completed=done, total=total
            )


@contextmanager
def reported(context_json: bool) -> Iterator[None]:
    """End the process with exit code 2 and a message on any error raised on purpose."""
    try:
        yield
    except HybridQAError as exc:
        message = str(exc)
        if context_json:
            error = {"error": {"type": type(exc).__name__, "message": message}}
            sys.stdout.write(json.dumps(error, ensure_ascii=False) + "\n")
        else:
            Console(stderr=True, highlight=False).print(f"[red]Error:[/red] {_plain(message)}")
        raise typer.Exit(BAD_INPUT) from exc


def _plain(message: str) -> str:
    """Keep Rich from reading brackets in a message as markup."""
    return message.replace("[", r"\[")
