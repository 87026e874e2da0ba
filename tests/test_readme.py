"""The README is true: its Python runs, its commands exist, its files are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hybridqa.cli.main import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.real
def test_python_blocks_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), {})

    assert "840 grams" in capsys.readouterr().out


COMMANDS = set(
    re.findall(r"^hybridqa ([a-z ]+?)(?= [^a-z]| docs| runs|$)", "\n".join(blocks("sh")), re.M)
)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_commands_exist(command: str) -> None:
    words = [word for word in command.split() if word not in {"ID"}]

    result = CliRunner().invoke(app, [*words, "--help"])

    assert result.exit_code == 0, result.output


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")

    for target in re.findall(r"`?make ([a-z-]+)", README):
        assert re.search(rf"^{target}:", makefile, re.M), target


def test_linked_files_exist() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
