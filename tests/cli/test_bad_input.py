"""Bad input ends with a message that names it and says what to do, not with a traceback."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hybridqa.cli.session

Cli = Callable[..., Any]
SAMPLE = Path(__file__).parents[2] / "eval" / "sample"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def entries(home: Path) -> dict[str, bytes]:
    kept = ("catalog.sqlite", "index", "adapters")
    return {
        str(path.relative_to(home)): path.read_bytes()
        for name in kept
        for path in [home / name, *(home / name).rglob("*")]
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("junk.txt", bytes(range(256)) * 20, r"junk.txt` holds NUL bytes"),
        ("latin.txt", "Müller weiß".encode("latin-1") * 9, "latin.txt` is not UTF-8"),
        ("big.txt", b"a" * 50_000_000, "has 50000000 bytes, limit 20000000. Split it"),
        ("broken.pdf", b"%PDF-1.4 and no more", "broken.pdf` cannot be read as a PDF"),
        ("empty.md", b"", "empty.md` (0 bytes) holds no text"),
        ("picture.png", b"\x89PNG", "is of the kind `.png`, which cannot be read. Convert it"),
    ],
)
def test_a_bad_file(
    cli: Cli, home: Path, tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    cli("documents", "list", "--home", home)
    before = entries(home)
    (tmp_path / name).write_bytes(data)

    done = cli("ingest", tmp_path / name, "--home", home)

    assert message in done.error
    assert entries(home) == before


def test_a_missing_path(cli: Cli, home: Path, tmp_path: Path) -> None:
    assert "nowhere` cannot be found" in cli("ingest", tmp_path / "nowhere", "--home", home).error


def test_an_empty_folder(cli: Cli, home: Path, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()

    done = cli("ingest", tmp_path / "docs", "--home", home)

    assert "holds no file to ingest. Put one there of these kinds: .txt" in done.error


@pytest.mark.parametrize(
    "args",
    [
        ("ingest", ""),
        ("ingest",),
        ("ask",),
        ("nonsense",),
        ("documents", "list", "--home", ""),
        ("documents", "list", "--config", ""),
        ("documents", "list", "--nonsense"),
        ("ask", "x", "--style", "loud"),
        ("ingest", "docs", "--internalizer", "magic"),
        ("eval", "qa"),
    ],
)
def test_wrong_usage(
    cli: Cli, args: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    people, machine = cli(*args), cli(*args, "--json")

    assert people.code == machine.code == 2
    assert "Usage:" in people.err
    assert machine.json["error"]["type"] == "UsageError"
    assert machine.json["error"]["message"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model:\n  nam: x\n", "`model.nam`: Unexpected keyword argument, got 'x'"),
        ("answer:\n  passages: many\n", "`answer.passages`: Input should be a valid integer"),
        ("answer:\n  passages: 0\n", "greater than or equal to 1, got 0"),
        ("index: [1, 2]\n", "`index`: "),
        ("- 1\n", "(top level)"),
        ("a: [", "is not YAML"),
        ("policy: nope\n", "There is no policy `nope`. Shipped: default"),
        ("policy: missing.yaml\n", "`missing.yaml` cannot be read"),
        ("\xff\xfe", "config.yaml` "),
    ],
)
def test_bad_settings(cli: Cli, home: Path, tmp_path: Path, text: str, message: str) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(text, encoding="latin-1")

    assert message in cli("documents", "list", "--home", home, "--config", config).error
    assert not home.exists()


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_settings_that_are_no_file(cli: Cli, home: Path, tmp_path: Path, name: str) -> None:
    done = cli("--config", tmp_path / name, "documents", "list", "--home", home)

    assert "cannot be read" in done.error
    assert "Give the path of a YAML file" in done.error


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ("", "The question is empty"),
        ("  \n", "The question is empty"),
        ("q" * 100_000, "The question has 100000 characters, limit 4000. Shorten it, or raise"),
        ("caf\udce9", "The question is not UTF-8 at character 3"),
    ],
)
def test_a_bad_question(cli: Cli, home: Path, question: str, message: str) -> None:
    for command in ("ask", "explain"):
        assert message in cli(command, question, "--home", home).error
    machine = cli("ask", question, "--home", home, "--json")
    assert machine.code == 2
    assert machine.json["error"]["type"] == "QuestionError"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("ask", "x", "--arm", "magic"), "There is no arm `magic`. Use one of auto, base"),
        (("ask", "x", "--document", "../x"), "There is no document `../x`"),
        (("documents", "show", "../../etc/passwd"), "There is no document `../../etc/passwd`"),
        (("adapters", "show", "../../etc/passwd"), "There is no adapter `../../etc/passwd`"),
        (("adapters", "show", "%"), "There is no adapter `%`"),
        (("adapters", "export", "../../x", "out"), "There is no adapter `../../x`"),
    ],
)
def test_unknown_names(cli: Cli, home: Path, args: tuple[str, ...], message: str) -> None:
    assert message in cli(*args, "--home", home).error
    machine = cli(*args, "--home", home, "--json")
    assert machine.code == 2
    assert message in machine.json["error"]["message"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "There is no file or folder"),
        ("", "is empty"),
        ("{nonsense", "line 1: "),
        ('{"id": 1}', "line 1: "),
    ],
)
def test_bad_evaluation_data(cli: Cli, tmp_path: Path, data: str | None, message: str) -> None:
    path = tmp_path / "data.jsonl"
    if data is not None:
        path.write_text(data)

    assert message in cli("eval", "qa", "--data", path, "--limit", "1").error


def test_bad_evaluation_options(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text("{}")

    assert "magic" in cli("eval", "qa", "--data", path, "--arms", "base,magic").error
    rows = cli("eval", "qa", "--data", path, "--rows", tmp_path / "no" / "rows.jsonl")
    assert "there is no folder" in rows.error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--arms", "base,magic"), "There is no arm `magic`"),
        (("--metrics", "f1,charm"), "charm"),
        (("--metrics", "faithfulness"), "faithfulness need a judge. Name one with `--judge`"),
        (("--judge", "local", "--judge-limit", "0"), "At least 1 question must be judged, got 0"),
        (("--judge", "http://127.0.0.1:9"), "The judge's model is empty"),
        (("--judge", "somebody", "--judge-model", "m"), "somebody"),
        (("--limit", "0"), "limit of questions must be at least 1, got 0"),
        (("--timed", "-1"), "timed questions must be 0 or more, got -1"),
        (("--column", "question"), "`--column question` is not NAME=COLUMN"),
        (("--data", "nothing.csv"), "nothing.csv"),
    ],
)
def test_a_run_that_cannot_be_begun(
    cli: Cli, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    out = tmp_path / "run"
    data = ("--data", SAMPLE)

    assert message in cli("eval", "run", *data, "--out", out, *options).error
    assert not out.exists()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("eval", "niah", "--tokens", "256,many"), "`--tokens`: `many` is not a whole number"),
        (("eval", "niah", "--tokens", "2.5"), "`--tokens`: `2.5` is not a whole number"),
        (("eval", "niah", "--tokens", "256,-1"), "must be at least 1, got -1"),
        (("eval", "niah", "--tokens", ","), "There is nothing to measure"),
        (("eval", "niah", "--depths", "0,middle"), "`--depths`: `middle` is not a number"),
        (("eval", "niah", "--depths", "0,2"), "A depth is a share in [0, 1] of the text, got 2"),
        (("eval", "niah", "--trials", "0"), "trials must be at least 1, got 0"),
        (("eval", "niah", "--arms", "base,magic"), "There is no arm `magic`"),
        (("eval", "niah", "--arms", "retrieval"), "The arm `retrieval` has no part in this"),
        (("eval", "niah", "--filler", "lorem"), "There is no filler `lorem`"),
        (("eval", "niah", "--out", __file__), "is a file. Name a folder"),
        (("eval", "relevance", "--data", "nothing.csv"), "nothing.csv"),
        (("eval", "unanswerable", "--data", "nothing.csv"), "nothing.csv"),
        (("eval", "unanswerable", "--data", "x.csv", "--styles", "bold"), "no style `bold`"),
        (("eval", "unanswerable", "--data", "x.csv", "--limit", "0"), "at least 1, got 0"),
        (("eval", "unrelated", "--data", "nothing.csv"), "nothing.csv"),
        (("eval", "unrelated", "--data", "nothing.csv", "--texts", "0"), "texts must be at least"),
        (("eval", "unrelated", "--data", "nothing.csv", "--wear", "half"), "adapter `half`"),
        (("eval", "conflict", "--arms", "auto"), "The arm `auto` has no part in this"),
        (("eval", "conflict", "--limit", "0"), "limit of facts must be at least 1, got 0"),
        (("eval", "attribution", "--data", "nothing.csv"), "nothing.csv"),
        (("eval", "attribution", "--data", SAMPLE, "--limit", "0"), "limit of questions must be"),
        (("bench", "internalize", "--tokens", "1k"), "`--tokens`: `1k` is not a whole number"),
        (("bench", "internalize", "--tokens", "0"), "must be at least 1, got 0"),
        (("bench", "internalize", "--repeats", "-1"), "repeats must be at least 1, got -1"),
        (("bench", "internalize", "--distil-tokens", "-1"), "must be at least 0, got -1"),
    ],
)
def test_a_measurement_that_cannot_be_made(
    cli: Cli, command: tuple[str, ...], message: str
) -> None:
    assert message in cli(*command).error


def test_a_measurement_of_adapters_without_an_internalizer(cli: Cli, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("internalize:\n  internalizer: none\n")

    assert "internalizer: none" in cli("bench", "internalize", "--config", config).error


@pytest.mark.parametrize("command", ["show", "dashboard"])
def test_a_folder_without_a_run(cli: Cli, tmp_path: Path, command: str) -> None:
    options = ("--out", tmp_path / "page.html") if command == "dashboard" else ()

    assert "There is no run in" in cli("eval", command, tmp_path, *options).error


def test_a_gate_without_runs(cli: Cli, tmp_path: Path) -> None:
    runs = ("--baseline", tmp_path / "a", "--candidate", tmp_path / "b")

    assert "There is no run in" in cli("eval", "gate", *runs).error
    limits = tmp_path / "limits.yaml"
    limits.write_text("cheks: []\n")
    assert "cheks" in cli("eval", "gate", *runs, "--config", limits).error


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_home_that_is_a_file(cli: Cli, tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("mine")

    done = cli("documents", "list", "--home", tmp_path / "file" / below)

    assert "Cannot create the home directory" in done.error
    assert "--home DIR" in done.error
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_that_is_no_home(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "mine").write_text("mine")

    assert "is not a hybridqa home" in cli("documents", "list", "--home", tmp_path).error
    assert (tmp_path / "index" / "mine").read_text() == "mine"


HOLDING = """
import sys
from hybridqa import HybridQA
with HybridQA(sys.argv[1]):
    print("open", flush=True)
    sys.stdin.read()
"""


def test_a_home_that_another_process_has_open(cli: Cli, home: Path) -> None:
    command = [sys.executable, "-c", HOLDING, str(home)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"open\n"

        message = cli("documents", "list", "--home", home).error

        holder.stdin.close()
    assert f"`{home}` is in use by another process. Wait for it, or choose another" in message
    assert cli("documents", "list", "--home", home).code == 0


def test_what_should_not_happen_is_told_without_a_traceback(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*args: object) -> None:
        raise ZeroDivisionError("a [bug]")

    monkeypatch.setattr(hybridqa.cli.session.Session, "config", breaks)

    people = cli("documents", "list", "--home", home)
    machine = cli("documents", "list", "--home", home, "--json")

    assert people.code == machine.code == 1
    assert "ZeroDivisionError: a [bug]. Please report it" in people.err
    assert "Traceback" not in people.err
    assert machine.json["error"]["type"] == "ZeroDivisionError"


def test_the_real_command_ends_with_2_and_json(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hybridqa", "--json", "--home", str(tmp_path / "home"), "ask"]
    odd = os.fsdecode(b"caf\xe9")

    done = subprocess.run([*command, odd], capture_output=True)

    assert done.returncode == 2
    assert done.stderr == b""
    assert json.loads(done.stdout)["error"]["type"] == "QuestionError"
