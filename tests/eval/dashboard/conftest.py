"""Pages of made-up runs, and the system's own Chromium to open them in."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hybridqa.errors import InputError
from hybridqa.eval.dashboard import build_page
from hybridqa.eval.dashboard.measure import chromium
from hybridqa.eval.rows import Run
from hybridqa.eval.summary import summarize
from tests.eval.synthetic_run import make_run

OpenTab = Callable[..., Any]


@pytest.fixture(scope="session")
def run() -> Run:
    return make_run(questions=120)


@pytest.fixture(scope="session")
def before() -> Run:
    return make_run(questions=120, seed=1, path="runs/before", better=-0.2)


def page_of(run: Run, before: Run | None = None) -> str:
    against = (before, summarize(before).as_dict()) if before else None
    return build_page(run, summarize(run).as_dict(), against)


@pytest.fixture(scope="session")
def page(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("dashboard") / "run.html"
    file.write_text(page_of(run), encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def compared(run: Run, before: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("dashboard") / "compared.html"
    file.write_text(page_of(run, before), encoding="utf-8")
    return file


@pytest.fixture(scope="module")  # while it is open, the main thread runs an event loop
def browser() -> Iterator[Any]:
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(chromium())
        except InputError as exc:
            pytest.skip(str(exc))
        yield opened


@pytest.fixture
def open_tab(browser: Any) -> Iterator[OpenTab]:
    """Opens a file and waits until it is drawn; anything wrong in the console fails the test."""
    wrong: list[str] = []

    def open_tab(file: Path, hash: str = "", width: int = 1280, dark: bool = False) -> Any:
        tab = browser.new_page(
            viewport={"width": width, "height": 844},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
        )
        tab.on("console", lambda line: line.type == "error" and wrong.append(line.text))
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("request", lambda asked: asked.url.startswith("http") and wrong.append(asked.url))
        tab.goto(file.as_uri() + hash)
        tab.wait_for_selector("html[data-ready]", timeout=20_000)
        return tab

    yield open_tab
    for context in browser.contexts:
        context.close()
    assert wrong == []
