"""Puts a run, its summary, the style and the scripts into one HTML file that loads nothing else.

The data are compressed and stand in the page as Base64, so nothing in them can end the script
element that holds them; the page shows them as text only. A content security policy allows this
page's own script and style, by hash, and no loads at all.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

from hybridqa.eval.dashboard.payload import payload
from hybridqa.eval.rows import Run
from hybridqa.stores.disk import disk_errors

HERE = Path(__file__).parent

# One script, as a file opened from disk may import no modules; each needs only those before it.
_SCRIPTS = (
    "dom",
    "words",
    "data",
    "plots",
    "findings",
    "summary",
    "scores",
    "costs",
    "sections",
    "questions",
    "detail",
    "app",
)


def build_page(
    run: Run,
    summary: Mapping[str, Any],
    against: tuple[Run, Mapping[str, Any]] | None = None,
    home: str | None = None,
) -> str:
    """Return the page of a run.

    Args:
        run: To show.
        summary: Of it, see `summary.Summary.as_dict`.
        against: An earlier run of the same questions and its summary, to compare with.
        home: Link to the list of runs, where there is one.

    Raises:
        InputError: The two runs asked different questions, or a run is damaged.
    """
    packed = gzip.compress(
        json.dumps(
            payload(run, summary, against) | {"home": home}, separators=(",", ":"), allow_nan=False
        ).encode(),
        mtime=0,
    )
    style = read("style.css")
    script = "\n".join(read(f"{name}.js") for name in _SCRIPTS)
    return Template(read("page.html")).substitute(
        policy=f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'",
        title=html.escape(f"{Path(run.manifest.data).name} · hybridqa evaluation"),
        style=style,
        data=base64.b64encode(packed).decode(),
        script=script,
    )


def write_page(
    path: Path,
    run: Run,
    summary: Mapping[str, Any],
    against: tuple[Run, Mapping[str, Any]] | None = None,
) -> int:
    """Write the page of a run; return its bytes.

    Raises:
        InputError: The two runs asked different questions.
        StoreError: It cannot be written.
    """
    page = build_page(run, summary, against).encode()
    with disk_errors("write the dashboard", path):
        return path.write_bytes(page)


def read(name: str) -> str:
    """Return a file of this folder: a script, the style, or the page's frame."""
    return (HERE / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
