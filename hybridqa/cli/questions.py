"""`ask`, `explain` and `demo`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from hybridqa.cli.session import (
    ABSTAINED,
    ConfigOption,
    HomeOption,
    JsonOption,
    Session,
    reported,
)
from hybridqa.types import Answer, Arm, Style

QuestionArgument = Annotated[str, typer.Argument(metavar="QUESTION")]
ArmOption = Annotated[
    str, typer.Option("--arm", metavar="ARM", help="auto, base, adapter, retrieval or both.")
]
DocumentOption = Annotated[
    list[str] | None,
    typer.Option("--document", metavar="ID", help="Answer from this document only; repeatable."),
]


def register(app: typer.Typer) -> None:
    app.command()(ask)
    app.command()(explain)
    app.command()(demo)


def ask(
    context: typer.Context,
    question: QuestionArgument,
    arm: ArmOption = "auto",
    document: DocumentOption = None,
    style: Annotated[
        Style | None,
        typer.Option(help="Literal spans, own words, or either; default: the policy's."),
    ] = None,
    home: HomeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer a question. Exit code 3 if no document says."""
    session = Session.of(context, home, config, as_json)
    with reported(session.json):
        chosen = _arm(arm)
        with session.open() as qa:
            from hybridqa.serialize import answer_dict

            answer = qa.ask(question, chosen, document or (), style)
            session.show(answer_dict(answer), lambda console: render_answer(console, answer))
    if answer.abstained:
        raise typer.Exit(ABSTAINED)


def explain(
    context: typer.Context,
    question: QuestionArgument,
    arm: ArmOption = "auto",
    document: DocumentOption = None,
    home: HomeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell how a question would be answered, and why, without generating anything."""
    session = Session.of(context, home, config, as_json)
    with reported(session.json):
        chosen = _arm(arm)
        with session.open() as qa:
            from hybridqa.serialize import decision_dict

            decision = qa.explain(question, chosen, document or ())

            def render(console: Console) -> None:
                console.print(f"[bold]{decision.arm}[/bold]")
                for reason in decision.reasons:
                    console.print(f"  - {reason}", markup=False)
                for document_id in decision.document_ids:
                    console.print(f"  document {document_id}", markup=False)

            session.show(decision_dict(question, decision), render)


def demo(
    context: typer.Context,
    home: Annotated[
        Path | None, typer.Option("--home", metavar="DIR", help="Keep the demo's documents here.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw what is shown, as SVG.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take in the sample documents and answer questions about them, arm by arm."""
    session = Session.of(context, home, config, as_json)
    with reported(session.json):
        from hybridqa.cli.demo import as_dict, render, run

        with session.progress() as advance:
            advance("loading models", 0, 1)
            result = run(home or context.find_root().params.get("home"), session.config(), advance)
        session.show(as_dict(result), lambda console: render(console, result))
        if picture is not None:
            canvas = Console(record=True, width=130, file=io.StringIO())
            render(canvas, result)
            canvas.save_svg(str(picture), title="hybridqa demo")


def render_answer(console: Console, answer: Answer) -> None:
    """Draw an answer with its evidence for people."""
    text = answer.text or "The documents do not say."
    console.print(text, style="bold", markup=False, highlight=False)
    for citation in answer.citations:
        place = f"{citation.document_id}[{citation.start}:{citation.end}]"
        console.print(f"  “{citation.quote}” {place} {citation.verified}", markup=False)
    console.print(f"  arm {answer.arm}, confidence {answer.confidence:.2f}", style="dim")
    for reason in answer.reasons:
        console.print(f"  - {reason}", style="dim", markup=False, highlight=False)


def _arm(name: str) -> Arm | None:
    from hybridqa.errors import InputError

    if name == "auto":
        return None
    try:
        return Arm(name)
    except ValueError as exc:
        known = ", ".join(["auto", *(arm.value for arm in Arm)])
        raise InputError(f"There is no arm `{name:.40}`. Use one of {known}.") from exc
