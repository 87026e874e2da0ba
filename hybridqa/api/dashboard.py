"""The dashboard, live: a list of runs, a page for each, and any two of them compared.

`create_dashboard` returns an app of its own or to mount: all links are relative.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse

from hybridqa.errors import InputError
from hybridqa.eval import runs
from hybridqa.eval.dashboard import build_page
from hybridqa.eval.dashboard.build import read
from hybridqa.eval.rows import Manifest, Run
from hybridqa.eval.runs import read_manifest, read_run
from hybridqa.eval.summary import summarize

_FILES = (runs.MANIFEST, runs.DOCUMENTS, runs.QUESTIONS, runs.ANSWERS, runs.SCORES)
_KEPT_PAGES = 16
_MOST_COMPARED = 8

Figures = Callable[[Run], Mapping[str, Any]]
"""From a run to its summary as JSON values."""

_Stamp = tuple[tuple[int, int], ...]


def _summary(run: Run) -> Mapping[str, Any]:
    return summarize(run).as_dict()


def create_dashboard(folder: Path, figures: Figures = _summary) -> FastAPI:
    """Return an app that shows the runs of a folder.

    Args:
        folder: A run, or a folder of runs. Read anew where files in it have changed.
        figures: Summarizes a run.

    Raises:
        InputError: There is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder `{folder}`. Name a run, or a folder of runs.")
    shelf = _Shelf(folder.resolve(), figures)
    app = FastAPI(title="hybridqa evaluation", openapi_url=None)

    @app.exception_handler(InputError)
    def explain(_: Request, error: Exception) -> HTMLResponse:
        return _framed("This cannot be shown", f"<p>{escape(str(error))}</p>", 422)

    @app.exception_handler(404)
    def nothing(_: Request, __: Exception) -> HTMLResponse:
        return _framed("Nothing here", "<p>There is no such page or run.</p>", 404)

    @app.get("/")
    def listing() -> HTMLResponse:
        return _framed("Evaluation runs", _table(shelf.manifests()))

    @app.get("/runs/{name}")
    def one(name: str) -> HTMLResponse:
        return HTMLResponse(shelf.page(name, home="../"))

    @app.get("/runs/{name}/against/{before}")
    def two(name: str, before: str) -> HTMLResponse:
        return HTMLResponse(shelf.page(name, before, home="../../../"))

    return app


class _Shelf:
    """The runs of a folder, and pages made of them, kept until their files change."""

    def __init__(self, folder: Path, figures: Figures) -> None:
        self._folder, self._figures = folder, figures
        self._pages: dict[tuple[str, ...], tuple[list[_Stamp], str]] = {}
        self._troubles: dict[str, tuple[_Stamp, str | None]] = {}
        self._lock = Lock()  # endpoints run in threads, and no page is to be made twice at once

    def manifests(self) -> dict[str, Manifest | str]:
        """Return the manifest of each run, the newest first; else why it cannot be shown."""
        found: dict[str, Manifest | str] = {}
        with self._lock:
            for name, folder in self._folders().items():
                trouble = self._trouble(name, folder)
                found[name] = trouble if trouble else read_manifest(folder)
        told = {name: one.created_at for name, one in found.items() if isinstance(one, Manifest)}
        return dict(sorted(found.items(), key=lambda item: told.get(item[0], ""), reverse=True))

    def page(self, *names: str, home: str) -> str:
        """Return the page of one run, or of one and that before it.

        Raises:
            HTTPException: There is no run of that name.
            InputError: A run cannot be shown, or the two cannot be compared.
        """
        with self._lock:
            folders = self._folders()
            if not folders.keys() >= set(names):
                raise HTTPException(404)
            stamps = [_stamp(folders[name]) for name in names]
            if names in self._pages and self._pages[names][0] == stamps:
                return self._pages[names][1]
            known = [read_run(folders[name]) for name in names]
            (run, its), *before = [(each, self._figures(each)) for each in known]
            page = build_page(run, its, before[0] if before else None, home)
            self._pages.pop(names, None)
            self._pages[names] = (stamps, page)
            for oldest in list(self._pages)[:-_KEPT_PAGES]:
                del self._pages[oldest]
            return page

    def _folders(self) -> dict[str, Path]:
        """Return the folders that hold a run, by the only names that are ever looked up."""
        if (self._folder / runs.MANIFEST).exists():
            return {self._folder.name: self._folder}
        below = sorted(self._folder.iterdir())
        return {path.name: path for path in below if (path / runs.MANIFEST).exists()}

    def _trouble(self, name: str, folder: Path) -> str | None:
        stamp = _stamp(folder)
        if self._troubles.get(name, (None, None))[0] != stamp:
            try:
                read_run(folder)
                self._troubles[name] = (stamp, None)
            except InputError as error:
                self._troubles[name] = (stamp, str(error))
        return self._troubles[name][1]


def _stamp(folder: Path) -> _Stamp:
    """Return what changes when one of the run's files does."""
    found = []
    for name in _FILES:
        try:
            status = (folder / name).stat()
            found.append((status.st_mtime_ns, status.st_size))
        except OSError:
            found.append((0, 0))
    return tuple(found)


def _table(found: Mapping[str, Manifest | str]) -> str:
    if not found:
        return "<p>No runs yet. Make one with <code>hybridqa eval run --out DIR</code>.</p>"
    rows = "".join(_row(name, one, found) for name, one in found.items())
    head = "".join(
        f'<th scope="col">{word}</th>' for word in ("Run", "What", "Compare with, as before")
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<div class="scroll">{table}</div>'


def _row(name: str, run: Manifest | str, found: Mapping[str, Manifest | str]) -> str:
    if isinstance(run, str):
        why = f'<td colspan="2" class="warn">{escape(run)}</td>'
        return f'<tr><th scope="row">{escape(name)}</th>{why}</tr>'
    here = f"runs/{quote(name, safe='')}"
    before = [
        f'<a href="{here}/against/{quote(other, safe="")}">{escape(other)}</a>'
        for other, its in found.items()
        if other != name and isinstance(its, Manifest) and _asked(its) == _asked(run)
    ]
    made = run.created_at[:16].replace("T", " ")
    what = f"{run.data}, {run.questions} questions, {len(run.arms)} arms, {made}"
    return (
        f'<tr><th scope="row"><a href="{here}">{escape(name)}</a></th><td>{escape(what)}</td>'
        f"<td>{', '.join(before[:_MOST_COMPARED])}</td></tr>"
    )


def _asked(run: Manifest) -> tuple[str, int]:
    return run.data_sha256, run.questions


def _framed(title: str, body: str, status: int = 200) -> HTMLResponse:
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" '
        'content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{title}</title><style>{read('style.css')}</style>"
        f"<main><section><h1>{title}</h1>{body}</section></main></html>"
    )
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"
    return HTMLResponse(page, status, {"Content-Security-Policy": policy})
