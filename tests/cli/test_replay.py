import json
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from hybridqa.cli import replay
from hybridqa.engines.trace import logged
from hybridqa.stores.question_log import QuestionLog
from hybridqa.testing import FakeInternalizer, FakeSystem
from hybridqa.types import Document

CODE = "What is the gate code?"
RETRIEVE = """
name: retrieve
description: Retrieves always.
rules:
  - {if: always, then: retrieval, because: a test wants it}
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log of one question that the adapter answered."""
    (tmp_path / "stores").mkdir()
    system = FakeSystem(tmp_path / "stores")
    document = Document(id="gate.md", text="The gate code is walnut.", title="Gate", source="gate")
    system.ingestor().ingest(document, FakeInternalizer())
    log = QuestionLog(tmp_path / "questions.jsonl", system.catalog.live_hashes)
    log.append(logged(system.answerer().trace(CODE), "default", "fake-model"))
    system.close()
    return log.path


def ran(*args: str | Path) -> Result:
    app, group = typer.Typer(), typer.Typer()
    group.callback()(lambda: None)
    replay.register(group)
    app.add_typer(group, name="eval")
    return CliRunner().invoke(app, ["eval", "replay", *map(str, args)], env={"COLUMNS": "200"})


def test_a_policy_is_tried_on_a_log(log: Path, tmp_path: Path) -> None:
    (tmp_path / "retrieve.yaml").write_text(RETRIEVE)
    args = ("--log", log, "--policy", tmp_path / "retrieve.yaml")

    shown, printed, markdown = (ran(*args, *how) for how in ([], ["--json"], ["--markdown"]))

    assert (shown.exit_code, printed.exit_code, markdown.exit_code) == (0, 0, 0)
    assert "1 of 1 questions change" in shown.stdout
    assert "adapter → retrieval" in shown.stdout
    found = json.loads(printed.stdout)
    assert (found["policy"], found["policies"], found["changed"]) == (
        "retrieve",
        {"default": 1},
        1,
    )
    assert f"| {CODE} | adapter → retrieval |" in markdown.stdout


def test_the_homes_log_is_the_default(log: Path, tmp_path: Path) -> None:
    done = ran("--home", tmp_path, "--policy", "default", "--json")

    assert json.loads(done.stdout)["questions"] == 1
    assert json.loads(done.stdout)["changed"] == 0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--policy", "nope"], "There is no policy `nope`. Shipped: default"),
        (["--policy", "nowhere.yaml"], "`nowhere.yaml` cannot be read"),
        (["--policy", "default", "--log", "nowhere.jsonl"], "`nowhere.jsonl` cannot be read"),
        (["--policy", "default", "--run", "nowhere"], "There is no run in `nowhere`"),
    ],
)
def test_bad_input_is_told(log: Path, args: list[str], message: str) -> None:
    done = ran("--log", log, *args, "--json")

    assert done.exit_code == 2
    assert message in json.loads(done.stdout)["error"]["message"]


def test_a_newer_log_is_refused(log: Path) -> None:
    log.write_text('{"format": 2}\n')

    done = ran("--log", log, "--policy", "default", "--json")

    assert done.exit_code == 2
    assert "has format 2" in json.loads(done.stdout)["error"]["message"]
