"""`eval weigh`, `relevance`, `unanswerable`: by what places, documents, passages are judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar

import typer

from hybridqa.cli.probes import SeedOption
from hybridqa.cli.session import (
    ConfigOption,
    HomeOption,
    JsonOption,
    MarkdownOption,
    Session,
    comma_separated,
    reported,
)

if TYPE_CHECKING:
    from hybridqa.config import Config
    from hybridqa.eval.bench import Progress
    from hybridqa.eval.cases import Dataset
    from hybridqa.eval.grid import Grid


class _Report(Protocol):
    def as_dict(self) -> dict[str, Any]: ...


_Plan = TypeVar("_Plan")
_Reported = TypeVar("_Reported", bound=_Report)

DatasetsOption = Annotated[
    list[str], typer.Option(metavar="FILE|DIR|hub:ID", help="Questions; may be given often.")
]
WithoutOption = Annotated[
    int, typer.Option(metavar="N", help="Leave out those that `eval run --limit N` asks.")
]


def register(group: typer.Typer) -> None:
    group.command("weigh")(weigh)
    group.command("relevance")(relevance)
    group.command("unanswerable")(unanswerable)


def weigh(
    context: typer.Context,
    data: DatasetsOption,
    limit: Annotated[int, typer.Option(metavar="N", help="Most questions of each.")] = 100,
    without: WithoutOption = 0,
    absent: Annotated[
        float, typer.Option(metavar="W", help="Weight of questions without the right passages.")
    ] = 0.05,
    seed: SeedOption = 0,
    markdown: MarkdownOption = False,
    home: HomeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fit how places that a locator finds are weighed, by itself and by what judges say of them.

    Seconds a question. The weights stand in `hybridqa/engines/prompts.py`.
    """
    session = Session.of(context, home, config, as_json)
    with reported(session.json):
        from hybridqa.eval.probes.weighing import WeighPlan, grid, run_weighing

        plan = WeighPlan(limit=limit, without=without, absent=absent, seed=seed)
        _measure(session, data, plan, run_weighing, lambda report: [grid(report)], markdown)


def relevance(
    context: typer.Context,
    data: DatasetsOption,
    documents: Annotated[int, typer.Option(metavar="N", help="Of each, at most.")] = 100,
    questions: Annotated[
        int, typer.Option(metavar="N", help="Of each kind, for each document.")
    ] = 4,
    seed: SeedOption = 0,
    markdown: MarkdownOption = False,
    home: HomeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell for which questions a document's adapter would be worn: its own, others', general ones.

    Nothing is generated. The weights stand in `hybridqa/engines/prompts.py`; others are fitted.
    """
    session = Session.of(context, home, config, as_json)
    with reported(session.json):
        from hybridqa.eval.probes.relevance import RelevancePlan, grid, run_relevance

        plan = RelevancePlan(documents=documents, questions=questions, seed=seed)
        _measure(session, data, plan, run_relevance, lambda report: [grid(report)], markdown)


def unanswerable(
    context: typer.Context,
    data: DatasetsOption,
    limit: Annotated[int, typer.Option(metavar="N", help="Most questions of each.")] = 70,
    without: WithoutOption = 0,
    styles: Annotated[str, typer.Option(help="Comma-separated.")] = "quote,free,either",
    absent: Annotated[
        float, typer.Option(metavar="W", help="Weight of passages that do not answer, in fitting.")
    ] = 1 / 6,
    seed: SeedOption = 0,
    markdown: MarkdownOption = False,
    home: HomeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask with the passages that are found, and with some that do not answer: what is invented?

    Seconds a question; no adapter is made. The policy's `silent_from` and checks decide what is
    said and given.
    """
    session = Session.of(context, home, config, as_json)
    with reported(session.json):
        from hybridqa.eval.probes.unanswerable import run_unanswerable
        from hybridqa.eval.probes.unanswerable_report import UnanswerablePlan, grids

        names = comma_separated(styles)
        plan = UnanswerablePlan(
            limit=limit, without=without, styles=names, absent=absent, seed=seed
        )
        _measure(session, data, plan, run_unanswerable, grids, markdown)


def _measure(
    session: Session,
    data: Sequence[str],
    plan: _Plan,
    run: Callable[[Config, Sequence[Dataset], _Plan, Progress], _Reported],
    grids: Callable[[_Reported], list[Grid]],
    markdown: bool,
) -> None:
    """Run a measurement on datasets, and show its table."""
    from hybridqa.eval.datasets import load

    datasets = [load(each) for each in data]
    with session.progress() as advance:
        advance("loading models", 0, 1)
        report = run(session.config(), datasets, plan, advance)
    session.show_grids(report.as_dict(), grids(report), markdown)
