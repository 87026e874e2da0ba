"""`eval weigh` and `eval relevance`: the weights by which places and documents are judged."""

from __future__ import annotations

from typing import Annotated

import typer

from hybridqa.cli.probes import SeedOption
from hybridqa.cli.session import (
    ConfigOption,
    HomeOption,
    JsonOption,
    MarkdownOption,
    Session,
    reported,
)

DatasetsOption = Annotated[
    list[str], typer.Option(metavar="FILE|DIR|hub:ID", help="Questions; may be given often.")
]


def register(group: typer.Typer) -> None:
    group.command("weigh")(weigh)
    group.command("relevance")(relevance)


def weigh(
    context: typer.Context,
    data: DatasetsOption,
    limit: Annotated[int, typer.Option(metavar="N", help="Most questions of each.")] = 100,
    without: Annotated[
        int, typer.Option(metavar="N", help="Leave out those that `eval run --limit N` asks.")
    ] = 0,
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
        from hybridqa.eval.datasets import load
        from hybridqa.eval.probes.weighing import WeighPlan, grid, run_weighing

        plan = WeighPlan(limit=limit, without=without, absent=absent, seed=seed)
        datasets = [load(each) for each in data]
        with session.progress() as advance:
            advance("loading models", 0, 1)
            report = run_weighing(session.config(), datasets, plan, advance)
        session.show_grids(report.as_dict(), [grid(report)], markdown)


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
        from hybridqa.eval.datasets import load
        from hybridqa.eval.probes.relevance import RelevancePlan, grid, run_relevance

        plan = RelevancePlan(documents=documents, questions=questions, seed=seed)
        datasets = [load(each) for each in data]
        with session.progress() as advance:
            advance("loading models", 0, 1)
            report = run_relevance(session.config(), datasets, plan, advance)
        session.show_grids(report.as_dict(), [grid(report)], markdown)
