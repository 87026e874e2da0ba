"""Every command, on an empty home: what needs no model."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]

COMMANDS = [
    ("ingest",),
    ("ask",),
    ("explain",),
    ("documents", "list"),
    ("documents", "show"),
    ("documents", "delete"),
    ("adapters", "list"),
    ("adapters", "show"),
    ("adapters", "export"),
    ("adapters", "convert-checkpoint"),
    ("demo",),
    ("eval", "qa"),
    ("eval", "replay"),
    ("eval", "niah"),
    ("eval", "relevance"),
    ("eval", "unanswerable"),
    ("eval", "unrelated"),
    ("eval", "conflict"),
    ("eval", "attribution"),
    ("bench",),
    ("bench", "internalize"),
    ("fetch",),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_and_the_common_options(cli: Cli, command: tuple[str, ...]) -> None:
    done = cli(*command, "--help")

    assert done.code == 0
    for option in ("--home", "--config", "--json"):
        assert option in done.out


@pytest.mark.parametrize("command", ["run", "show", "gate", "dashboard", "serve"])
def test_evaluation_commands_have_help(cli: Cli, command: str) -> None:
    done = cli("eval", command, "--help")

    assert done.code == 0
    assert "--json" in done.out


def test_without_a_command_help_is_shown(cli: Cli) -> None:
    done = cli()

    for name in {command[0] for command in COMMANDS}:
        assert re.search(rf"\b{name}\b", done.out + done.err)


def test_the_version_is_told(cli: Cli) -> None:
    assert re.fullmatch(r"hybridqa \d+\.\d+.*\n", cli("--version").out)


@pytest.mark.parametrize("what", ["documents", "adapters"])
def test_an_empty_home_lists_nothing(cli: Cli, tmp_path: Path, what: str) -> None:
    assert cli(what, "list", "--home", tmp_path, "--json").json == {what: []}
    assert cli(what, "list", "--home", tmp_path).code == 0


def test_options_may_stand_before_or_after_the_command(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("answer:\n  passages: 4\n")
    before, after = tmp_path / "before", tmp_path / "after"

    assert cli("--home", before, "--config", config, "--json", "documents", "list").json
    assert cli("documents", "list", "--json", "--config", config, "--home", after).json
    assert cli("--home", tmp_path / "unused", "documents", "list", "--home", after).code == 0

    assert before.is_dir()
    assert after.is_dir()
    assert not (tmp_path / "unused").exists()


def test_the_home_may_come_from_the_environment(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYBRIDQA_HOME", str(tmp_path / "home"))

    assert cli("documents", "list").code == 0

    assert (tmp_path / "home" / "catalog.sqlite").is_file()
