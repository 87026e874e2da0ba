"""`hybridqa eval conflict`: does a document prevail over what the model believed before?

Each fact is told otherwise in a short document, and asked for under these arms:

- `base`: no document anywhere: what the model believes;
- `context`: the document in the prompt;
- `adapter`: wears the document's adapter;
- `wrong-adapter`: wears the adapter of another fact's document.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from hybridqa.config import Config
from hybridqa.eval.arms import ArmName
from hybridqa.eval.bench import Progress, scratch, silent
from hybridqa.eval.grid import Grid, percent
from hybridqa.eval.metrics.text import mentions
from hybridqa.eval.probes.facts import Fact, facts
from hybridqa.eval.probes.lab import (
    Lab,
    OpenHome,
    Refusal,
    answer_of,
    at_least,
    chosen_arms,
    told,
)
from hybridqa.eval.statistics import Interval, wilson
from hybridqa.protocols import Generation, Prompt
from hybridqa.wiring import HybridQA

ARMS = (ArmName.BASE, ArmName.CONTEXT, ArmName.ADAPTER, ArmName.WRONG_ADAPTER)


class Said(StrEnum):
    """Whose value an answer names."""

    DOCUMENT = "document"
    WORLD = "world"
    BOTH = "both"
    NEITHER = "neither"


@dataclass(frozen=True, kw_only=True)
class ConflictRow:
    """One fact under one arm."""

    fact: str
    kind: str
    arm: str
    question: str
    answer: str | None
    """`None` where it could not be asked."""
    said: Said | None
    reason: str | None
    """Why it could not be asked."""


@dataclass(frozen=True, kw_only=True)
class ConflictArm:
    """All facts under one arm, or those that the model knew; shares of those asked."""

    arm: str
    asked: int
    refused: int
    reason: str | None
    """Of the first that could not be asked."""
    counts: dict[str, int]
    """By `Said`."""

    def share(self, *said: Said) -> Interval | None:
        """Return the share of such answers, after Wilson; `None` where none was asked."""
        hits = sum(self.counts[each] for each in said)
        return wilson(hits, self.asked) if self.asked else None

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        shares = {
            "document": self.share(Said.DOCUMENT),
            "world": self.share(Said.WORLD),
            "else": self.share(Said.BOTH, Said.NEITHER),
        }
        return {
            **asdict(self),
            **{name: share.as_dict() if share else None for name, share in shares.items()},
        }


@dataclass(frozen=True, kw_only=True)
class ConflictReport:
    """What was answered, and what is needed to measure it again."""

    rows: Sequence[ConflictRow]
    seed: int
    wear: str
    about: dict[str, Any]

    def arms(self, known_only: bool = False) -> list[ConflictArm]:
        """Return the arms in order.

        Args:
            known_only: Count only facts whose true value the model names under `base`: there alone
                is a belief to contradict.
        """
        known = {r.fact for r in self.rows if r.arm == ArmName.BASE and r.said is Said.WORLD}
        rows = [row for row in self.rows if not known_only or row.fact in known]
        names = dict.fromkeys(row.arm for row in self.rows)
        return [_arm(name, [row for row in rows if row.arm == name]) for name in names]

    def as_dict(self) -> dict[str, Any]:
        """Return what `hybridqa eval conflict --json` prints."""
        return {
            "facts": len({row.fact for row in self.rows}),
            "seed": self.seed,
            "wear": self.wear,
            "arms": [arm.as_dict() for arm in self.arms()],
            "known_arms": [arm.as_dict() for arm in self.arms(known_only=True)],
            "rows": [asdict(row) for row in self.rows],
            **self.about,
        }


def run_conflict(
    config: Config,
    arms: Sequence[str] = ARMS,
    limit: int | None = None,
    seed: int = 0,
    progress: Progress = silent,
    open_home: OpenHome = HybridQA,
) -> ConflictReport:
    """Ask for all facts, in a home that is removed afterwards.

    The documents have one passage each, so adapters are worn whole.

    Args:
        config: Of the model and the internalizer; its index URL is not used.
        arms: Names from `ARMS`.
        limit: Most facts; `None` asks for all.
        seed: Of the order of the facts: the next one lends its adapter as the wrong one.
        progress: Told of every fact.
        open_home: Opens a home directory; tests put fakes into it.

    Raises:
        InputError: An arm or the limit cannot be used, or there is no internalizer.
    """
    chosen = chosen_arms(arms, ARMS)
    at_least("seed", seed, 0)
    if limit is not None:
        at_least("limit of facts", limit, 1)
    every = facts()
    order = random.Random(seed).sample(every, len(every))
    with scratch(config, open_home) as qa:
        lab, rows = Lab(qa), list[ConflictRow]()
        about, asked = lab.about(), order[:limit]
        for n, fact in enumerate(asked):
            progress("facts", n, len(asked))
            rows += _asked(lab, chosen, fact, order[(n + 1) % len(order)])
        progress("facts", len(asked), len(asked))
    placed = {str(arm): n for n, arm in enumerate(ARMS)}
    rows.sort(key=lambda row: placed[row.arm])
    return ConflictReport(rows=rows, seed=seed, wear=str(lab.wear), about=about)


def _asked(lab: Lab, arms: Sequence[ArmName], fact: Fact, other: Fact) -> Iterator[ConflictRow]:
    prompts: dict[ArmName, Prompt | Refusal] = {}
    if ArmName.BASE in arms:
        prompts[ArmName.BASE] = lab.alone(fact.question)
    if ArmName.CONTEXT in arms:
        prompts[ArmName.CONTEXT] = lab.reads(fact.question, fact.document)
    for arm, lender in ((ArmName.ADAPTER, fact), (ArmName.WRONG_ADAPTER, other)):
        if arm in arms:
            made = lab.internalize(lender.document)
            prompts[arm] = made if isinstance(made, Refusal) else lab.wearing(made, fact.question)
    answers = lab.answers(list(prompts.values()))
    for arm, answer in zip(prompts, answers, strict=True):
        yield _row(arm, fact, answer)


def _row(arm: ArmName, fact: Fact, made: Generation | Refusal) -> ConflictRow:
    answer = None if isinstance(made, Refusal) else answer_of(made)
    return ConflictRow(
        fact=fact.id,
        kind=fact.kind,
        arm=str(arm),
        question=fact.question,
        answer=answer,
        said=None if answer is None else said_in(answer, fact),
        reason=made.reason if isinstance(made, Refusal) else None,
    )


def said_in(answer: str, fact: Fact) -> Said:
    """Return whose value an answer names."""
    document = mentions(answer, fact.value)
    world = any(mentions(answer, value) for value in fact.world)
    if document and world:
        return Said.BOTH
    if document:
        return Said.DOCUMENT
    return Said.WORLD if world else Said.NEITHER


def _arm(name: str, rows: Sequence[ConflictRow]) -> ConflictArm:
    asked = [row.said for row in rows if row.said is not None]
    return ConflictArm(
        arm=name,
        asked=len(asked),
        refused=len(rows) - len(asked),
        reason=next((row.reason for row in rows if row.reason), None),
        counts={said: asked.count(said) for said in Said},
    )


def grids(report: ConflictReport) -> list[Grid]:
    """Return a table of all facts, and one of those that the model knew, if it was asked."""
    count = len({row.fact for row in report.rows})
    title = f"Conflict: {count} well-known facts, told otherwise in a document"
    caption = (
        f"Else: neither value, or both. Seed {report.seed}; {told(report.about)}. In brackets, "
        "Wilson's 95 % intervals."
    )
    drawn = [_grid(title, report.arms(), caption)]
    known = report.arms(known_only=True)
    if known[0].arm == ArmName.BASE and known[0].asked:
        of_these = f"Of these, the {known[0].asked} that the model answers truly under `base`"
        drawn.append(_grid(of_these, known, ""))
    return drawn


def _grid(title: str, arms: Sequence[ConflictArm], caption: str) -> Grid:
    return Grid(
        title=title,
        columns=("arm", "the document's value", "the world's", "else", "not asked"),
        rows=[
            (
                arm.arm,
                percent(arm.share(Said.DOCUMENT)),
                percent(arm.share(Said.WORLD)),
                percent(arm.share(Said.BOTH, Said.NEITHER)),
                f"{arm.refused}: {arm.reason}" if arm.refused else "0",
            )
            for arm in arms
        ],
        caption=caption,
    )
