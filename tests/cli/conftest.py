import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hybridqa.cli import main


@dataclass(frozen=True)
class Run:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The only thing printed."""
        assert self.err == ""
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The message of bad input: one line for people, without a traceback."""
        assert self.code == 2
        assert self.out == ""
        assert "Traceback" not in self.err
        message = self.err.strip()
        assert message.startswith("Error: ")
        return message.removeprefix("Error: ")


Cli = Callable[..., Run]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Runs a command as a shell would, in this process."""

    def run(*args: str | Path) -> Run:
        capsys.readouterr()
        with monkeypatch.context() as context:
            context.setattr(sys, "argv", ["hybridqa", *map(str, args)])
            context.setenv("COLUMNS", "200")
            context.setenv("TERM", "dumb")
            code = 0
            try:
                main()
            except SystemExit as exit:
                code = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
        captured = capsys.readouterr()
        return Run(code, captured.out, captured.err)

    return run
