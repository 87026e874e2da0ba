"""The commands that need models, on one home with three documents."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hybridqa.models.base import BaseModel
from hybridqa.models.embedder import SentenceTransformerEmbedder
from hybridqa.wiring import HybridQA

pytestmark = pytest.mark.real

Cli = Callable[..., Any]

DOCUMENTS = {
    "handbook.md": "# Handbook\n\nThe notice period is three months to the end of a quarter. "
    "Every employee has 28 days of holiday a year. The canteen is on the fourth floor.\n",
    "manual.txt": "The Kestrel kettle holds 1.7 litres. Descale it every six weeks with citric "
    "acid. The lid opens by the blue button.\n",
    "prices.md": "# Price list, updated 3 May 2026\n\nThe basic plan currently costs 9 euros a "
    "month. The team plan costs 49 euros a month.\n",
}
NOTICE = "How long is the notice period?"


@pytest.fixture(scope="module")
def docs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    docs = tmp_path_factory.mktemp("docs")
    for name, text in DOCUMENTS.items():
        (docs / name).write_text(text)
    return docs


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, docs: Path) -> Iterator[Path]:
    """A home with the documents; models are loaded once for all commands."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for loaded in (BaseModel, SentenceTransformerEmbedder):
            once = functools.cache(loaded.from_checkpoint)
            patch.setattr(loaded, "from_checkpoint", once)
        with HybridQA(home) as qa:
            synced = qa.ingest_files([docs], root=docs)
            assert [done.warning for done in synced.ingested] == [None] * 3
        yield home


def test_ask_prints_one_object(cli: Cli, home: Path) -> None:
    done = cli("ask", NOTICE, "--home", home, "--json")

    assert done.code == 0
    answer = done.json
    assert answer.keys() == {
        *("question", "answer", "abstained", "arm", "style", "reasons", "citations", "adapter"),
        *("confidence", "prompt_tokens", "completion_tokens", "timings_ms"),
    }
    assert answer["question"] == NOTICE
    assert "three months" in answer["answer"]
    assert answer["arm"] in {"adapter", "retrieval"}
    assert answer["reasons"]
    assert 0 < answer["confidence"] <= 1
    assert answer["prompt_tokens"] >= answer["completion_tokens"] >= 0  # none where it was found
    assert {"retrieve", "route", "first_token", "generate", "total"} <= answer["timings_ms"].keys()
    [citation] = answer["citations"]
    assert citation.keys() == {"document_id", "start", "end", "quote", "score", "verified"}
    text = DOCUMENTS[citation["document_id"]]
    assert citation["quote"] == text[citation["start"] : citation["end"]]


@pytest.mark.parametrize("arm", ["base", "adapter", "retrieval", "both"])
def test_ask_takes_an_arm(cli: Cli, home: Path, arm: str) -> None:
    answer = cli("--json", "ask", NOTICE, "--arm", arm, "--home", home).json

    assert answer["arm"] == arm
    if arm in {"adapter", "both"}:
        assert answer["adapter"].keys() >= {"id", "document_id", "energy"}
        assert answer["adapter"]["document_id"] == "handbook.md"
    else:
        assert answer["adapter"] is None


def test_ask_shows_people_the_answer_and_its_source(cli: Cli, home: Path) -> None:
    done = cli("ask", NOTICE, "--arm", "retrieval", "--home", home)

    assert done.code == 0
    assert "three months" in done.out
    assert "handbook.md[" in done.out
    assert done.err == ""


def test_ask_ends_with_3_where_no_document_says(cli: Cli, home: Path) -> None:
    done = cli("ask", "Which frescoes did Giotto paint in Padua?", "--home", home, "--json")

    assert done.code == 3
    assert done.json["abstained"]
    assert done.json["answer"] == ""
    assert done.json["citations"] == []


def test_ask_looks_at_named_documents_only(cli: Cli, home: Path) -> None:
    args = ("--document", "prices.md", "--arm", "retrieval", "--home", home, "--json")

    answer = cli("ask", "What does the basic plan cost?", *args).json

    assert {citation["document_id"] for citation in answer["citations"]} <= {"prices.md"}


def test_explain_prints_the_decision(cli: Cli, home: Path) -> None:
    decision = cli("explain", "What does the basic plan cost?", "--home", home, "--json").json

    assert decision.keys() == {"question", "arm", "reasons", "documents", "adapter", "query"}
    assert decision["arm"] == "retrieval"
    assert decision["documents"][0] == "prices.md"


def test_documents_and_adapters_are_listed_shown_and_exported(
    cli: Cli, home: Path, tmp_path: Path
) -> None:
    listed = cli("documents", "list", "--home", home, "--json").json["documents"]
    assert [document["id"] for document in listed] == sorted(DOCUMENTS)
    assert all(document["adapter"] for document in listed)
    shown = cli("documents", "show", "manual.txt", "--home", home, "--json").json
    assert shown["text"] == DOCUMENTS["manual.txt"]
    [adapter] = shown["adapters"]
    assert cli("adapters", "show", adapter["id"][:12], "--home", home, "--json").json == adapter
    adapters = cli("adapters", "list", "--home", home, "--json").json["adapters"]
    assert adapter in adapters

    folder = tmp_path / "peft"
    done = cli("adapters", "export", adapter["id"][:8], folder, "--home", home, "--json")
    assert done.json == {"id": adapter["id"], "folder": str(folder)}
    exported = {"adapter_config.json", "adapter_model.safetensors"}
    assert {path.name for path in folder.iterdir()} == exported
    again = cli("adapters", "export", adapter["id"][:8], folder, "--home", home)
    assert f"`{folder}` is there already. Name a new or empty folder" in again.error
    gguf = tmp_path / "gguf"
    cli("adapters", "export", adapter["id"][:8], gguf, "--format", "gguf", "--home", home)
    assert [path.name for path in gguf.iterdir()] == ["adapter.gguf"]
    both = cli(
        *("adapters", "export", adapter["id"][:8], tmp_path / "no", "--home", home),
        *("--format", "gguf", "--rank", "64"),
    )
    assert "A rank of 64 was given for the format `gguf`" in both.error
    part = cli(
        "adapters", "export", adapter["id"][:8], tmp_path / "no", "--part", 9, "--home", home
    )
    assert "parts, numbered from 0, and none is 9" in part.error
    for what in ("documents", "adapters"):
        assert "manual.txt" in cli(what, "list", "--home", home).out


def test_a_changed_file_is_answered_from_at_once(cli: Cli, home: Path, docs: Path) -> None:
    handbook = docs / "handbook.md"
    handbook.write_text(DOCUMENTS["handbook.md"].replace("three months", "six weeks"))
    try:
        done = cli("ingest", docs, "--root", docs, "--home", home, "--json").json
        statuses = {document["id"]: document["status"] for document in done["documents"]}
        assert statuses == {
            "handbook.md": "changed",
            "manual.txt": "unchanged",
            "prices.md": "unchanged",
        }
        for arm in ("auto", "adapter", "retrieval", "both"):
            answer = cli("ask", NOTICE, "--arm", arm, "--home", home, "--json").json
            assert "three months" not in answer["answer"]
            if arm != "adapter":
                assert "six weeks" in answer["answer"]
    finally:
        handbook.write_text(DOCUMENTS["handbook.md"])
        assert cli("ingest", docs, "--root", docs, "--home", home).code == 0


def test_a_deleted_document_is_gone(cli: Cli, home: Path, docs: Path) -> None:
    done = cli("documents", "delete", "prices.md", "--home", home, "--json")

    assert done.code == 0
    assert (
        "There is no document `prices.md`"
        in cli("documents", "show", "prices.md", "--home", home).error
    )
    assert cli("ask", "What does the team plan cost?", "--home", home).code == 3
    assert cli("ingest", docs / "prices.md", "--root", docs, "--home", home).code == 0


def test_a_run_is_shown_drawn_and_gated(cli: Cli, home: Path, docs: Path, tmp_path: Path) -> None:
    data, out = tmp_path / "questions.csv", tmp_path / "run"
    data.write_text(
        f"question,answers,document\n{NOTICE},three months,handbook.md\n"
        "How much does the Kestrel kettle hold?,1.7 litres|1.7,manual.txt\n"
    )
    asked = ("--data", data, "--documents", docs, "--out", out, "--arms", "adapter,retrieval,auto")
    summary = cli("eval", "run", *asked, "--timed", "1", "--json").json

    assert summary["n"] == 2
    assert summary["matrix"]["retrieval+quote"]["correct"]["mean"] == 1
    assert (out / "dashboard.html").stat().st_size > 10_000
    assert "holds a run already" in cli("eval", "run", *asked).error
    assert cli("eval", "run", *asked, "--timed", "1", "--resume", "--json").json == summary
    assert "retrieval+quote" in cli("eval", "show", out).out
    gate = cli("eval", "gate", "--baseline", out, "--candidate", out, "--json")
    assert (gate.code, gate.json["passed"]) == (4, False)  # two questions are too few to tell
    changed = cli("eval", "replay", "--log", out / "log.jsonl", "--policy", "default", "--json")
    assert changed.json["changed"] == 0
