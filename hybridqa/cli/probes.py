"""`eval niah`, `effort`, `unrelated`, `conflict` and `attribution`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hybridqa.cli.session import (
    ConfigOption,
    HomeOption,
    JsonOption,
    MarkdownOption,
    Session,
    as_path,
    comma_separated,
    fractions,
    reported,
    whole_numbers,
)

WearOption = Annotated[
    str,
    typer.Option(
        metavar="whole|part", help="All of an adapter, or as the engine does: the best share."
    ),
]
DataOption = Annotated[
    str, typer.Option(metavar="FILE|DIR|hub:ID", help="Questions; see `eval run`.")
]
SeedOption = Annotated[int, typer.Option(metavar="S")]


def register(group: typer.Typer) -> None:
    group.command("niah")(niah)
    group.command("effort")(effort)
    group.command("unrelated")(unrelated)
    group.command("conflict")(conflict)
    group.command("attribution")(attribution)


def niah(
    context: typer.Context,
    tokens: Annotated[
        str, typer.Option(metavar="N,...", help="Lengths of the texts, in the model's tokens.")
    ] = "256,1024,4096,16384,32768,65536,131072",
    depths: Annotated[
        str, typer.Option(metavar="D,...", help="Shares of the text before the needle, 0 to 1.")
    ] = "0,0.25,0.5,0.75,1",
    trials: Annotated[
        int, typer.Option(metavar="N", help="Texts, each with its needle, a length and depth.")
    ] = 5,
    arms: Annotated[
        str, typer.Option(help="Comma-separated.")
    ] = "adapter,wrong-adapter,base,context",
    filler: Annotated[
        str,
        typer.Option(metavar="sample|noise", help="Prose of the sample documents, or RULER's."),
    ] = "sample",
    wear: WearOption = "whole",
    quote: Annotated[
        bool, typer.Option(help="Let adapters quote from what is kept beside them, as `ask` does.")
    ] = False,
    seed: SeedOption = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", parser=as_path, help="Write niah.json, trials.jsonl and niah.png."
        ),
    ] = None,
    markdown: MarkdownOption = False,
    home: HomeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hide a fact in long texts, internalize them, and ask for it without the text.

    Texts that the internalizer does not take, and prompts beyond the model's window, are told in
    their cells.
    """
    session = Session.of(context, home, config, as_json)
    with reported(session.json):
        from hybridqa.eval.folder import prepare_folder
        from hybridqa.eval.probes import niah_report
        from hybridqa.eval.probes.niah import NiahPlan, run_niah

        plan = NiahPlan(
            tokens=whole_numbers(tokens, "--tokens"),
            depths=fractions(depths, "--depths"),
            trials=trials,
            arms=comma_separated(arms),
            filler=filler,
            wear=wear,
            quote=quote,
            seed=seed,
        )
        if out is not None:
            prepare_folder(out, niah_report.JSON)
        with session.progress() as advance:
            advance("loading models", 0, 1)
            report = run_niah(session.config(), plan, advance)
        files = niah_report.write(report, out) if out is not None else []
        session.show_grids(report.as_dict(), niah_report.grids(report), markdown, files)


def effort(
    context: typer.Context,
    data: DataOption,
    steps: Annotated[
        str, typer.Option(metavar="N,...", help="Of training, from the hypernetwork's adapter on.")
    ] = "5,20,60",
    documents: Annotated[
        int, typer.Option(metavar="N", help="Most documents, each with all its questions.")
    ] = 8,
    seed: SeedOption = 0,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", parser=as_path, help="Write effort.json and effort.png."),
    ] = None,
    markdown: MarkdownOption = False,
    home: HomeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make adapters by the hypernetwork, refined from there, and distilled from zero.

    What each knows stands against the time it takes; minutes a document in all.
    """
    session = Session.of(context, home, config, as_json)
    with reported(session.json):
        from hybridqa.eval import effort_report
        from hybridqa.eval.datasets import load
        from hybridqa.eval.effort import EffortPlan, run_effort
        from hybridqa.eval.folder import prepare_folder

        plan = EffortPlan(steps=whole_numbers(steps, "--steps"), documents=documents, seed=seed)
        dataset = load(data)
        if out is not None:
            prepare_folder(out, effort_report.JSON)
        with session.progress() as advance:
            advance("loading models", 0, 1)
            report = run_effort(session.config(), dataset, plan, advance)
        files = effort_report.write(report, out) if out is not None else []
        session.show_grids(report.as_dict(), effort_report.grids(report), markdown, files)


def unrelated(
    context: typer.Context,
    data: DataOption,
    documents: Annotated[
        int, typer.Option(metavar="N", help="Whose adapters are worn, one after the other.")
    ] = 8,
    questions: Annotated[
        int, typer.Option(metavar="N", help="Of each kind, for each document.")
    ] = 16,
    texts: Annotated[
        int, typer.Option(metavar="N", help="Passages of each kind, for each document.")
    ] = 8,
    arms: Annotated[str, typer.Option(help="Comma-separated.")] = "adapter,context",
    wear: WearOption = "whole",
    relevant: Annotated[
        bool,
        typer.Option(
            "--relevant",
            help="Wear it, as `ask` does, only where the document bears on a question.",
        ),
    ] = False,
    seed: SeedOption = 0,
    markdown: MarkdownOption = False,
    home: HomeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Wear a document, and ask what has nothing to do with it: what changes?

    Answers, their likelihood, and the perplexity of other documents' passages, with the document's
    own questions and passages as the control.
    """
    session = Session.of(context, home, config, as_json)
    with reported(session.json):
        from hybridqa.eval.datasets import load
        from hybridqa.eval.probes.unrelated import UnrelatedPlan, run_unrelated
        from hybridqa.eval.probes.unrelated_report import grids

        plan = UnrelatedPlan(
            documents=documents,
            questions=questions,
            texts=texts,
            arms=comma_separated(arms),
            wear=wear,
            relevant=relevant,
            seed=seed,
        )
        dataset = load(data)
        with session.progress() as advance:
            advance("loading models", 0, 1)
            report = run_unrelated(session.config(), dataset, plan, advance)
        session.show_grids(report.as_dict(), grids(report), markdown)


def conflict(
    context: typer.Context,
    arms: Annotated[
        str, typer.Option(help="Comma-separated.")
    ] = "base,context,adapter,wrong-adapter",
    limit: Annotated[int | None, typer.Option(metavar="N", help="Most facts.")] = None,
    seed: SeedOption = 0,
    markdown: MarkdownOption = False,
    home: HomeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Contradict what everybody knows in a document: whose value is answered?"""
    session = Session.of(context, home, config, as_json)
    with reported(session.json):
        from hybridqa.eval.probes.conflict import grids, run_conflict

        names = comma_separated(arms)
        with session.progress() as advance:
            advance("loading models", 0, 1)
            report = run_conflict(session.config(), names, limit, seed, advance)
        session.show_grids(report.as_dict(), grids(report), markdown)


def attribution(
    context: typer.Context,
    data: DataOption,
    limit: Annotated[int | None, typer.Option(metavar="N", help="Most questions.")] = None,
    seed: SeedOption = 0,
    markdown: MarkdownOption = False,
    home: HomeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask adapters: does what is cited for their answers hold the gold answer?

    By the keys that an associative adapter is made of, and by searching the text for the answer.
    """
    session = Session.of(context, home, config, as_json)
    with reported(session.json):
        from hybridqa.eval.datasets import load
        from hybridqa.eval.probes.attribution import grid, run_attribution

        dataset = load(data)
        with session.progress() as advance:
            advance("loading models", 0, 1)
            report = run_attribution(session.config(), dataset, limit, seed, advance)
        session.show_grids(report.as_dict(), [grid(report)], markdown)
