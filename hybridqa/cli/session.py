"""What all commands share: options, output, and turning errors into exit codes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from hybridqa.errors import HybridQAError, InputError

if TYPE_CHECKING:
    from hybridqa.config import Config
    from hybridqa.eval.grid import Grid
    from hybridqa.wiring import HybridQA

ABSTAINED, BAD_INPUT, BUG = 3, 2, 1

N = TypeVar("N", int, float)


def as_path(value: str) -> Path:
    """Return a path, unless it is empty: `Path("")` would be the current folder."""
    if not value:
        raise typer.BadParameter("The path is empty. Is a shell variable unset?")
    return Path(value)


def comma_separated(text: str) -> list[str]:
    """Return the names in an option's value."""
    return [name.strip() for name in text.split(",") if name.strip()]


def whole_numbers(text: str, option: str) -> list[int]:
    """Return the whole numbers in an option's value, each once.

    Raises:
        InputError: One is not a whole number.
    """
    return _numbers(text, option, int, "a whole number, such as 1024")


def fractions(text: str, option: str) -> list[float]:
    """Return the numbers in an option's value, each once.

    Raises:
        InputError: One is not a number.
    """
    return _numbers(text, option, float, "a number, such as 0.5")


def _numbers(text: str, option: str, read: Callable[[str], N], such: str) -> list[N]:
    found = []
    for each in comma_separated(text):
        try:
            found.append(read(each))
        except ValueError as exc:
            raise InputError(
                f"`{option}`: `{each}` is not {such}. Separate several by commas."
            ) from exc
    return list(dict.fromkeys(found))


HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home",
        metavar="DIR",
        parser=as_path,
        help="Where documents, index and adapters are kept.",
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", parser=as_path, help="Settings; see configs/."),
]
MarkdownOption = Annotated[bool, typer.Option("--markdown", help="Print Markdown.")]
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

    def show_grids(
        self, data: Any, grids: Sequence[Grid], markdown: bool, files: Sequence[Path] = ()
    ) -> None:
        """Print `data` as JSON, or tables, in Markdown if asked for, or else with written files."""

        def render(console: Console) -> None:
            if markdown:
                typer.echo("\n".join(grid.markdown() for grid in grids))
                return
            for grid in grids:
                console.print(grid.drawn())
            for file in files:
                console.print(str(file), markup=False, soft_wrap=True)

        self.show(data, render)

    @contextmanager
    def progress(self) -> Iterator[Callable[[str, int, int], None]]:
        """Show a progress bar on standard error; the function takes label, done and total."""
        columns = (
            TextColumn("{task.description}", markup=False),
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
    """End the process with a message on any error: exit code 2 if raised on purpose, else 1."""
    try:
        yield
    except HybridQAError as exc:
        show_error(type(exc).__name__, str(exc), context_json)
        raise typer.Exit(BAD_INPUT) from exc
    except (typer.Exit, BrokenPipeError):
        raise
    except Exception as exc:
        if os.environ.get("HYBRIDQA_DEBUG"):
            raise
        message = (
            f"This should not happen: {type(exc).__name__}: {exc}. Please report it, with what "
            "`HYBRIDQA_DEBUG=1 hybridqa ...` prints."
        )
        show_error(type(exc).__name__, message, context_json)
        raise typer.Exit(BUG) from exc


def show_error(kind: str, message: str, as_json: bool) -> None:
    """Print an error as JSON on standard output, or for people on standard error."""
    if as_json:
        error = {"error": {"type": kind, "message": message}}
        sys.stdout.write(json.dumps(error, ensure_ascii=False) + "\n")
        return
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text.assemble(("Error:", "red"), f" {message}"))
