"""Stock LlamaIndex apps beside the same apps on hybridqa: both run, and how much differs."""

import asyncio
import gc
import runpy
from collections.abc import Iterator
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import Settings

# LlamaIndex's chat memory never closes its database.
pytestmark = pytest.mark.filterwarnings("ignore:<aiosqlite:ResourceWarning")

EXAMPLES = Path(__file__).parent / "examples"
DATA = {
    "lamp.txt": "The Corvane lamp was designed by Ilse Marrow in 1987. It weighs 840 grams.",
    "bridge.txt": "The Tamsin bridge was opened in 1931. It is painted green.",
}
SUB_QUESTIONS = """{"items": [
    {"sub_question": "Who designed the Corvane lamp?", "tool_name": "catalogue"},
    {"sub_question": "When was the Tamsin bridge opened?", "tool_name": "catalogue"}
]}"""


def apps_model(prompt: str) -> str:
    """Do what a capable LLM would be asked to do by the stock apps."""
    if "standalone question" in prompt:
        return "It weighs how many grams?"
    if "sub_question" in prompt:
        return SUB_QUESTIONS
    return f"In short: {prompt}"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scripted: Any) -> Iterator[None]:
    (tmp_path / "data").mkdir()
    for name, text in DATA.items():
        (tmp_path / "data" / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    Settings.llm = scripted(apps_model)
    loop = asyncio.new_event_loop()  # LlamaIndex takes the current one, or leaves one open
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()
    gc.collect()  # now, while the warning is ignored


@pytest.fixture
def _fake_models(homes: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    opened = []

    def opener(path: str) -> Any:
        opened.append(homes(path))
        return opened[-1]

    monkeypatch.setattr("hybridqa.HybridQA", opener, raising=False)
    yield
    for qa in opened:
        qa.close()


def run(name: str) -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))


@pytest.mark.parametrize("name", ["chat", "sub_questions", "pipeline"])
def test_switching_a_stock_app_changes_under_ten_lines(name: str) -> None:
    stock, ours = (
        [line for line in (EXAMPLES / file).read_text().splitlines()[1:] if line]
        for file in (f"{name}_stock.py", f"{name}.py")
    )
    edits = SequenceMatcher(None, stock, ours, autojunk=False).get_opcodes()
    changed = sum(max(b - a, d - c) for tag, a, b, c, d in edits if tag != "equal")

    assert 0 < changed < 10
    assert any("hybridqa" in line for line in ours)
    assert not any("hybridqa" in line for line in stock)


def test_the_stock_apps_run() -> None:
    assert str(run("chat_stock")["second"])
    assert len(run("sub_questions_stock")["response"].source_nodes) > 2
    assert run("pipeline_stock")["response"].source_nodes


@pytest.mark.usefixtures("_fake_models")
def test_a_chat_over_a_folder() -> None:
    done = run("chat")

    assert str(done["first"]) == "The Corvane lamp was designed by Ilse Marrow in 1987."
    assert str(done["second"]) == "It weighs 840 grams."
    assert done["second"].source_nodes[0].node.ref_doc_id == "data/lamp.txt"


@pytest.mark.usefixtures("_fake_models")
def test_sub_questions_with_us_as_the_tool() -> None:
    response = run("sub_questions")["response"]

    assert "Ilse Marrow" in str(response)
    assert "opened in 1931" in str(response)


@pytest.mark.usefixtures("_fake_models")
def test_a_pipeline_keeps_the_home_in_step_with_a_folder() -> None:
    done = run("pipeline")
    qa, lamp = done["qa"], Path("data/lamp.txt")
    assert "Ilse Marrow" in str(done["response"])
    (told,) = [d for d in qa.catalog.list() if d.document.title == "lamp.txt"]
    assert told.document.source == str(lamp.resolve())
    assert told.document.modified_at is not None

    lamp.write_text("The Corvane lamp was designed by Otto Brandt.")
    Path("data/bridge.txt").unlink()
    done["refresh"]()

    response = done["query_engine"].query("Who designed the Corvane lamp?")
    assert str(response) == "The Corvane lamp was designed by Otto Brandt."
    assert response.metadata["hybridqa_arm"] == "adapter"
    assert len(qa.catalog.list()) == 1
