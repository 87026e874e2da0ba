"""Write runs' figures and a picture of the dashboard into a README, as `make eval` does.

    python -m hybridqa.eval.publish README.md PICTURE.png NAME=RUN [NAME=RUN ...]

Of each run, the text between `<!-- eval NAME SECTION -->` and `<!-- end -->` is replaced by that
section of its summary. The picture shows the first run.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from hybridqa.errors import HybridQAError, InputError
from hybridqa.eval.dashboard import write_page
from hybridqa.eval.dashboard.measure import chromium
from hybridqa.eval.rows import Manifest, Run
from hybridqa.eval.runs import read_run
from hybridqa.eval.summary import Summary, summarize
from hybridqa.eval.summary_report import markdown

_SECTION = re.compile(r"(<!-- eval (\S+) (\S+)((?: \S+)*) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_WIDTH, _HEIGHT = 1280, 900


def publish(text: str, runs: Mapping[str, Run]) -> str:
    """Return a README with all sections of these runs replaced; others stay.

    Args:
        text: In it, `<!-- eval NAME SECTION [METRIC ...] -->` begins a section: `about`, or one of
            `summary_report.SECTIONS`; the metrics are the columns of a matrix.
        runs: By name.

    Raises:
        InputError: A run is not asked for anywhere, or a section does not exist.
    """
    summaries = {name: summarize(run) for name, run in runs.items()}
    used = set()

    def replaced(found: re.Match[str]) -> str:
        begin, name, section, metrics, _, end = found.groups()
        if name not in runs:
            return found[0]
        used.add(name)
        if section == "about":
            written = about(runs[name].manifest)
        else:
            written = _section(summaries[name], section, metrics.split())
        return f"{begin}{written.strip()}\n{end}"

    written = _SECTION.sub(replaced, text)
    if missing := sorted(runs.keys() - used):
        raise InputError(
            f"No section of the README shows {', '.join(missing)}. Add "
            f"`<!-- eval {missing[0]} matrix -->` and `<!-- end -->`."
        )
    return written


def about(manifest: Manifest) -> str:
    """Return in one sentence what was run, on what."""
    judged = f", judged by {manifest.judge['name']}" if manifest.judge else ""
    return (
        f"{manifest.questions} questions on {manifest.documents} documents of `{manifest.data}`, "
        f"seed {manifest.seed}, {manifest.model['name']} ({manifest.model['dtype']}), policy "
        f"`{manifest.policy['name']}`{judged}; {manifest.machine['device']}, commit "
        f"{manifest.machine['commit']}: `{manifest.command}`."
    )


def picture(run: Run, out: Path) -> None:
    """Draw the head of a run's dashboard in the system's Chromium.

    Raises:
        InputError: There is no browser.
    """
    page = out.with_suffix(".html")
    write_page(page, run, summarize(run).as_dict())
    try:
        with chromium() as browser:
            tab = browser.new_page(viewport={"width": _WIDTH, "height": _HEIGHT})
            tab.goto(page.absolute().as_uri())
            tab.wait_for_selector("html[data-ready]")
            tab.screenshot(path=str(out))
    finally:
        page.unlink()


def _section(summary: Summary, section: str, metrics: list[str]) -> str:
    if section == "matrix" and metrics:
        return markdown(summary, (section,), metrics)
    return markdown(summary, (section,))


def main(arguments: list[str]) -> None:
    """Do what the module says."""
    readme, drawn, *pairs = arguments
    runs = {name: read_run(folder) for name, _, folder in (pair.partition("=") for pair in pairs)}
    path = Path(readme)
    written = publish(path.read_text(encoding="utf-8"), runs)
    picture(next(iter(runs.values())), Path(drawn))
    path.write_text(written, encoding="utf-8")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except HybridQAError as exc:
        sys.exit(f"Error: {exc}")
