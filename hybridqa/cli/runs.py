"""`eval run`, `eval show` and `eval gate`."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from hybridqa.cli.session import (
    ConfigOption,
    JsonOption,
    MarkdownOption,
    Session,
    as_path,
    comma_separated,
    reported,
)
from hybridqa.errors import InputError

if TYPE_CHECKING:
    from hybridqa.eval.scoring import Judging
    from hybridqa.eval.summary import Summary

_GATES = Path(__file__).parent.parent / "configs" / "gates"

FAILED = 4
"""Exit code of a gate that does not hold."""

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")]


def register(group: typer.Typer) -> None:
    group.command("run")(run)
    group.command("show")(show)
    group.command("gate")(gate)


def run(
    context: typer.Context,
    data: Annotated[
        str,
        typer.Option(
            metavar="FILE|DIR|hub:ID", help="Questions: JSONL, SQuAD JSON, CSV, a folder, a hub id."
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", parser=as_path, help="Folder of the run; new, or begun.")
    ],
    arms: Annotated[
        str, typer.Option(help="Comma-separated; `auto` is the router.")
    ] = "base,context,adapter,wrong-adapter,retrieval,both,auto",
    metrics: Annotated[
        str, typer.Option(help="Comma-separated names, or `offline`, `judge`, `all`.")
    ] = "offline",
    documents: Annotated[
        Path | None,
        typer.Option(metavar="DIR", parser=as_path, help="The documents, where `--data` has none."),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=COLUMN", help="Where the data calls it otherwise; repeatable."),
    ] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", help="Most questions.")] = None,
    seed: Annotated[int, typer.Option(metavar="S")] = 0,
    timed: Annotated[
        int, typer.Option(metavar="N", help="Questions asked one by one, for their timings.")
    ] = 24,
    resume: Annotated[bool, typer.Option(help="Go on with the run in the folder.")] = False,
    judge: Annotated[
        str | None,
        typer.Option(metavar="local|URL", help="Who judges: this model, or an OpenAI-like API."),
    ] = None,
    judge_model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Model of the judge's API.")
    ] = None,
    judge_limit: Annotated[
        int | None, typer.Option(metavar="N", help="Judge so many questions only.")
    ] = None,
    judge_repeats: Annotated[
        int, typer.Option(metavar="N", help="Judge so many answers twice, by each metric.")
    ] = 20,
    judge_timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="For one reply of the judge.")
    ] = 60,
    markdown: MarkdownOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the same questions of every arm, score them, and draw the dashboard.

    The run can be killed at any time and gone on with by `--resume`.
    """
    session = Session.of(context, None, config, as_json)
    with reported(session.json):
        from hybridqa.eval.arms import parse_arms
        from hybridqa.eval.dashboard import write_page
        from hybridqa.eval.datasets import load
        from hybridqa.eval.metrics.catalog import parse_metrics
        from hybridqa.eval.plan import Plan
        from hybridqa.eval.runner import run as run_plan
        from hybridqa.eval.runs import read_run
        from hybridqa.eval.summary import summarize

        plan = Plan(
            dataset=load(data, documents, _columns(column or [])),
            arms=parse_arms(comma_separated(arms)),
            metrics=parse_metrics(comma_separated(metrics)),
            limit=limit,
            seed=seed,
            timed=timed,
            command=shlex.join(["hybridqa", *sys.argv[1:]]),
        )
        judging = _judging(judge, judge_model, judge_limit, judge_repeats, judge_timeout)
        with session.progress() as advance:
            advance("loading models", 0, 1)
            run_plan(session.config(), plan, out, resume, judging, advance)
            advance("drawing the dashboard", 0, 1)
            finished = read_run(out)
            summary = summarize(finished)
            page = out / "dashboard.html"
            write_page(page, finished, summary.as_dict())
        _show(session, summary, markdown)
        if not (session.json or markdown):
            session.console.print(f"Dashboard: {page}", markup=False, soft_wrap=True)


def show(
    context: typer.Context,
    run: RunArgument,
    markdown: MarkdownOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show a run's figures with their intervals."""
    session = Session.of(context, None, None, as_json)
    with reported(session.json):
        from hybridqa.eval.runs import read_run
        from hybridqa.eval.summary import summarize

        _show(session, summarize(read_run(run)), markdown)


def gate(
    context: typer.Context,
    baseline: Annotated[Path, typer.Option(metavar="RUN", help="What was good enough.")],
    candidate: Annotated[Path, typer.Option(metavar="RUN", help="What is to replace it.")],
    limits: Annotated[
        Path,
        typer.Option(
            "--config", metavar="FILE", parser=as_path, help="Limits; see configs/gates/."
        ),
    ] = _GATES / "default.yaml",
    markdown: MarkdownOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare two runs by limits, for CI: exit code 4 if the candidate falls short."""
    session = Session.of(context, None, None, as_json)
    with reported(session.json):
        from rich.markdown import Markdown

        from hybridqa.eval.gate import run_gate

        report = run_gate(limits, baseline, candidate)

        def render(console: Console) -> None:
            if markdown:
                typer.echo(report.markdown())
            else:
                console.print(Markdown(report.markdown()))

        session.show(report.as_dict(), render)
    if not report.passed:
        raise typer.Exit(FAILED)


def _show(session: Session, summary: Summary, markdown: bool) -> None:
    from hybridqa.eval import summary_report

    def render(console: Console) -> None:
        if markdown:
            typer.echo(summary_report.markdown(summary))
            return
        for table in summary_report.tables(summary):
            console.print(table)

    session.show(summary.as_dict(), render)


def _judging(
    judge: str | None, model: str | None, limit: int | None, repeats: int, timeout_s: float
) -> Judging | None:
    from hybridqa.eval.scoring import Judging

    if judge is None:
        return None
    if judge == "local":
        from hybridqa.eval.metrics.local_judge import LocalJudge

        return Judging(judge=lambda qa: LocalJudge(qa.base), limit=limit, repeats=repeats)
    from hybridqa.eval.metrics.remote_judge import RemoteJudge

    remote = RemoteJudge(judge, model or "", os.environ, timeout_s=timeout_s)
    return Judging(judge=lambda qa: remote, limit=limit, repeats=repeats)


def _columns(pairs: list[str]) -> dict[str, str]:
    columns = {}
    for pair in pairs:
        name, separator, column = pair.partition("=")
        if not (name and separator):
            raise InputError(
                f"`--column {pair}` is not NAME=COLUMN. Write e.g. `--column question=query`, or "
                "`--column id=` where there is none."
            )
        columns[name] = column
    return columns
