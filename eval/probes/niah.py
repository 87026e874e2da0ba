"""`hybridqa eval niah`: is one fact in a long text found again, and at which depth and length?

A needle, a short made-up fact, is put between two sentences of a filler text. The whole is
internalized, and the question is asked without the text. The arms of a trial:

- `adapter`: wears the adapter of the text that holds the needle;
- `wrong-adapter`: wears the adapter of another text of that length, which holds another needle;
- `base`: no text anywhere;
- `context`: the text in the prompt, where that fits the model's window.

Trial n has the same needle at every depth and length, and the same filler at every depth.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hybridqa.config import Config
from hybridqa.errors import InputError
from hybridqa.eval.arms import ArmName
from hybridqa.eval.bench import Progress, scratch, silent
from hybridqa.eval.filler import Filler, FillerKind, planted
from hybridqa.eval.metrics.text import mentions
from hybridqa.eval.probes.lab import (
    Lab,
    Made,
    OpenHome,
    Refusal,
    Wear,
    answer_of,
    at_least,
    chosen_arms,
    one_of,
)
from hybridqa.eval.probes.needles import Needle, needles
from hybridqa.eval.statistics import Interval, wilson
from hybridqa.protocols import Generation, Prompt
from hybridqa.types import Document
from hybridqa.wiring import HybridQA

ARMS = (ArmName.ADAPTER, ArmName.WRONG_ADAPTER, ArmName.BASE, ArmName.CONTEXT)
TOKENS = (256, 1024, 4096, 16_384, 32_768, 65_536, 131_072)
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)

_WEARING = (ArmName.ADAPTER, ArmName.WRONG_ADAPTER)


@dataclass(frozen=True, kw_only=True)
class NiahPlan:
    """What is measured."""

    tokens: Sequence[int] = TOKENS
    """Lengths of the texts, needle included."""
    depths: Sequence[float] = DEPTHS
    """Shares of the text that stand before the needle, in [0, 1]."""
    trials: int = 5
    """Of every length and depth; each has a text and a needle of its own."""
    arms: Sequence[str] = ARMS
    filler: str = FillerKind.SAMPLE
    wear: str = Wear.WHOLE
    quote: bool = False
    """Whether answers of adapters are quotations, found in what is kept of the text beside them."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise `InputError` where something cannot be measured."""
        if not self.tokens or not self.depths:
            raise InputError("There is nothing to measure. Name at least one length and one depth.")
        for tokens in self.tokens:
            at_least("length of a text, in tokens,", tokens, 1)
        for depth in self.depths:
            if not 0 <= depth <= 1:
                raise InputError(f"A depth is a share in [0, 1] of the text, got {depth:g}.")
        at_least("number of trials", self.trials, 1)
        at_least("seed", self.seed, 0)
        chosen_arms(self.arms, ARMS)
        one_of(FillerKind, self.filler, "filler")
        one_of(Wear, self.wear, "way to wear an adapter")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One question under one arm."""

    arm: str
    tokens: int
    """As planned."""
    depth: float
    number: int
    kind: str
    """Of the needle."""
    question: str
    value: str
    answer: str | None
    """`None` where it could not be asked."""
    correct: bool
    refused: str | None
    """One of `Refused`, where it could not be asked."""
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class Text:
    """What became of a text that was internalized."""

    tokens: int
    depth: float
    number: int
    """Of the trial."""
    measured_tokens: int
    made: dict[str, Any] | None
    """Rank, bytes, energy and time; `None` where there is no adapter."""
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """All trials of one arm at one length and depth."""

    arm: str
    tokens: int
    depth: float
    asked: int
    correct: int
    refused: str | None
    """Why some (or all) trials could not be asked; `None` where all were."""
    reason: str | None

    @property
    def share(self) -> Interval | None:
        """Of right answers among those asked, after Wilson; `None` where none was."""
        return wilson(self.correct, self.asked) if self.asked else None

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {**asdict(self), "share": self.share.as_dict() if self.share else None}


@dataclass(frozen=True, kw_only=True)
class NiahReport:
    """What was measured, and what is needed to measure it again."""

    plan: NiahPlan
    trials: Sequence[Trial]
    texts: Sequence[Text]
    distinct_tokens: int
    """Of filler, before any of it comes again."""
    about: dict[str, Any]

    def cells(self) -> list[Cell]:
        """Return all cells, by arm, length and depth."""
        found: dict[tuple[str, int, float], list[Trial]] = {}
        for trial in self.trials:
            found.setdefault((trial.arm, trial.tokens, trial.depth), []).append(trial)
        return [
            _cell(arm, tokens, depth, found[str(arm), tokens, depth])
            for arm in chosen_arms(self.plan.arms, ARMS)
            for tokens in self.plan.tokens
            for depth in self.plan.depths
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return what `hybridqa eval niah --json` prints."""
        return {
            **asdict(self.plan),
            "filler_tokens_before_it_repeats": self.distinct_tokens,
            "cells": [cell.as_dict() for cell in self.cells()],
            "texts": [asdict(text) for text in self.texts],
            **self.about,
        }


def run_niah(
    config: Config,
    plan: NiahPlan,
    progress: Progress = silent,
    open_home: OpenHome = HybridQA,
) -> NiahReport:
    """Measure all cells, in a home that is removed afterwards.

    Args:
        config: Of the model and the internalizer; its index URL is not used.
        plan: What is measured.
        progress: Told of every text.
        open_home: Opens a home directory; tests put fakes into it.

    Raises:
        InputError: The config has no internalizer, or a length leaves no room for a needle.
    """
    with scratch(config, open_home) as qa:
        experiment = _Experiment(Lab(qa, Wear(plan.wear)), plan)
        return experiment.run(progress)


class _Experiment:
    def __init__(self, lab: Lab, plan: NiahPlan) -> None:
        self._lab, self._plan = lab, plan
        self._arms = chosen_arms(plan.arms, ARMS)
        self._filler = Filler(lab.qa.base, FillerKind(plan.filler))
        # With a single trial, a second text lends the wrong adapter.
        wrong = ArmName.WRONG_ADAPTER in self._arms
        self._count = max(plan.trials, 2) if wrong else plan.trials
        self._needles = needles(self._count, plan.seed)
        self._texts: list[Text] = []
        self._without: list[Generation | Refusal] = []
        """Answers of the arm `base`, which are the same at every depth and length."""

    def run(self, progress: Progress) -> NiahReport:
        self._check_lengths()
        about = self._lab.about()
        if ArmName.BASE in self._arms:
            asked = self._needles[: self._plan.trials]
            self._without = self._lab.ask([self._lab.alone(each.question) for each in asked])
        trials: list[Trial] = []
        places = [(tokens, depth) for tokens in self._plan.tokens for depth in self._plan.depths]
        total = len(places) * self._count
        for n, (tokens, depth) in enumerate(places):
            for number in range(self._count):
                done = n * self._count + number
                progress(f"{tokens:,} tokens, depth {depth:g}", done, total)
                trials += self._text(tokens, depth, number)
        progress("done", total, total)
        return NiahReport(
            plan=self._plan,
            trials=trials,
            texts=self._texts,
            distinct_tokens=self._filler.distinct_tokens,
            about=about,
        )

    def _check_lengths(self) -> None:
        longest = max(map(self._tokens, self._needles))
        for tokens in self._plan.tokens:
            if tokens <= longest:
                raise InputError(
                    f"A text of {tokens} tokens has no room for filler: a needle alone has up to "
                    f"{longest}. Make it longer."
                )

    def _text(self, tokens: int, depth: float, number: int) -> Iterator[Trial]:
        """Yield all trials that need one text; its adapter is not kept."""
        document = self._document(tokens, depth, number)
        prompts: list[tuple[ArmName, int, Prompt | Refusal]] = []
        if set(self._arms) & set(_WEARING):
            made = self._internalized(document, tokens, depth, number)
            # The adapter is right for this text's question and wrong for the one before.
            for arm, asked in zip(_WEARING, (number, (number - 1) % self._count), strict=True):
                worn = made if isinstance(made, Refusal) else self._wearing(made, asked)
                prompts.append((arm, asked, worn))
        prompts.append((ArmName.CONTEXT, number, self._reads(document, number)))
        prompts = [
            each for each in prompts if each[0] in self._arms and each[1] < self._plan.trials
        ]
        answers = self._lab.answers([prompt for _, _, prompt in prompts])
        for (arm, asked, _), answer in zip(prompts, answers, strict=True):
            yield self._trial(arm, tokens, depth, asked, answer)
        if number < len(self._without):
            yield self._trial(ArmName.BASE, tokens, depth, number, self._without[number])

    def _document(self, tokens: int, depth: float, number: int) -> Document:
        needle, plan = self._needles[number], self._plan
        rng = random.Random(f"filler {plan.seed} {tokens} {number}")
        text = self._filler.text(tokens - self._tokens(needle), rng)
        return Document(
            id=f"haystack-{tokens}-{depth:g}-{number}",
            text=planted(text, needle.sentence, depth),
            title="Haystack",
            source="niah",
        )

    def _internalized(
        self, document: Document, tokens: int, depth: float, number: int
    ) -> Made | Refusal:
        made = self._lab.internalize(document)
        self._texts.append(
            Text(
                tokens=tokens,
                depth=depth,
                number=number,
                measured_tokens=self._lab.qa.chunker.count(document.text),
                made=made.as_dict() if isinstance(made, Made) else None,
                reason=made.reason if isinstance(made, Refusal) else None,
            )
        )
        return made

    def _wearing(self, made: Made, number: int) -> Prompt:
        wearing = self._lab.quoting if self._plan.quote else self._lab.wearing
        return wearing(made, self._needles[number].question)

    def _reads(self, document: Document, number: int) -> Prompt:
        return self._lab.reads(self._needles[number].question, document)

    def _tokens(self, needle: Needle) -> int:
        return self._lab.qa.chunker.count(f" {needle.sentence}")

    def _trial(
        self, arm: ArmName, tokens: int, depth: float, number: int, made: Generation | Refusal
    ) -> Trial:
        needle = self._needles[number]
        refusal = made if isinstance(made, Refusal) else None
        answer = None if isinstance(made, Refusal) else answer_of(made)
        return Trial(
            arm=str(arm),
            tokens=tokens,
            depth=depth,
            number=number,
            kind=needle.kind,
            question=needle.question,
            value=needle.value,
            answer=answer,
            correct=answer is not None and mentions(answer, needle.value),
            refused=str(refusal.kind) if refusal else None,
            reason=refusal.reason if refusal else None,
        )


def _cell(arm: str, tokens: int, depth: float, trials: Sequence[Trial]) -> Cell:
    refused = next((trial for trial in trials if trial.refused), None)
    return Cell(
        arm=arm,
        tokens=tokens,
        depth=depth,
        asked=sum(trial.refused is None for trial in trials),
        correct=sum(trial.correct for trial in trials),
        refused=refused.refused if refused else None,
        reason=refused.reason if refused else None,
    )
