"""How long the page takes in a real browser: to load, and to filter its questions."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from hybridqa.errors import InputError

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_SEARCHES = ("the", "which", "10", "a b", "")

# From the keystroke until the second frame after it: the table stands on the screen.
_FILTER = """(words) => new Promise((done) => {
  const box = document.getElementById("search");
  const start = performance.now();
  box.value = words;
  box.dispatchEvent(new Event("input", { bubbles: true }));
  requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - start)));
})"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Open the system's Chromium, without a window.

    Raises:
        InputError: It, or the package `playwright`, is not installed.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as exc:
        raise InputError("`playwright` is not installed. Run `pip install playwright`.") from exc
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        raise InputError(
            f"None of {', '.join(_BROWSERS)} is installed. On Debian: `apt-get install chromium`."
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(_QUIET))
        try:
            yield browser
        finally:
            browser.close()


def measure(page: Path, repeats: int = 5) -> tuple[float, float]:
    """Return the milliseconds that a page takes to load and to filter, medians.

    Loading lasts from opening the file until all is drawn; filtering from a change of the search
    until its result is on the screen.

    Args:
        page: HTML file that `build_page` made.
        repeats: Times to load it, at least 1.

    Raises:
        InputError: No browser can be opened.
    """
    loads, filters = [], []
    with chromium() as browser:
        for _ in range(repeats):
            tab = browser.new_page()
            tab.goto(page.absolute().as_uri())
            tab.wait_for_selector("html[data-ready]")
            loads.append(tab.evaluate("performance.getEntriesByName('ready')[0].startTime"))
            filters += [tab.evaluate(_FILTER, words) for words in _SEARCHES]
            tab.close()
    return median(loads), median(filters)
