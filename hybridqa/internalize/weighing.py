"""Choose between the places that a locator found by what judges say of them, round by round."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hybridqa.models.generator import ABSTENTION
from hybridqa.protocols import Generator, Judge, Judgement, Prompt, Round
from hybridqa.types import Place


@dataclass(frozen=True)
class Found:
    """A place in one of the texts that a prompt lets be quoted."""

    number: int
    """Of the text."""
    place: Place
    text: str


@dataclass(frozen=True)
class Verdict:
    """What a round chose."""

    found: Found | None
    """`None`: no place is the answer."""
    share: float
    """Of this choice among all, in [0, 1]."""
    prompt_tokens: int
    """That judges read in all rounds."""


def verdicts(
    asked: Sequence[tuple[Prompt, Sequence[Found]]], generator: Generator
) -> list[Verdict]:
    """Return what is chosen for each prompt from at least one place.

    Args:
        asked: Prompts with rounds, and what was found for each.
        generator: Judges, for all prompts together, those that no former round was sure about.
    """
    chosen: dict[int, Verdict] = {}
    weighed = [found for _, found in asked]
    read = [0] * len(asked)
    number = 0
    while left := [n for n in range(len(asked)) if n not in chosen]:
        rounds = {n: asked[n][0].rounds[number] for n in left}
        judged = _judged([(rounds[n], weighed[n]) for n in left], generator)
        for n, (logits, tokens) in zip(left, judged, strict=True):
            read[n] += tokens
            verdict = _verdict(weighed[n], logits, read[n])
            last = number + 1 == len(asked[n][0].rounds)
            if last or (verdict.found and verdict.share >= rounds[n].sure):
                chosen[n] = verdict
            weighed[n] = _likely(rounds[n], weighed[n], logits)
        number += 1
    return [chosen[n] for n in range(len(asked))]


def passed_on(round_: Round, found: Sequence[Found]) -> list[Found]:
    """Return the places that a round without judges leaves to be weighed in the next."""
    return _likely(round_, found, _alone(round_, found))


def _likely(round_: Round, found: Sequence[Found], logits: Sequence[float]) -> list[Found]:
    of_places = logits[: len(found)]
    least = max(of_places) + math.log(round_.keep) if round_.keep else -math.inf
    return [each for each, logit in zip(found, of_places, strict=True) if logit >= least]


def _alone(round_: Round, found: Sequence[Found]) -> list[float]:
    """Return the logits of all that was found and of nothing, whatever judges say."""
    return [*(round_.odds * each.place.log_odds for each in found), round_.nothing]


def _judged(
    rounds: Sequence[tuple[Round, Sequence[Found]]], generator: Generator
) -> list[tuple[list[float], int]]:
    """Return for each round the logits of all that was found and of nothing, and tokens read."""
    asked = {
        (n, m): texts
        for n, (round_, found) in enumerate(rounds)
        for m, judge in enumerate(round_.judges)
        if (texts := texts_for(judge, found))
    }
    prompts = [prompt_for(rounds[n][0].judges[m], rounds[n][1]) for n, m in asked]
    judgements = generator.judge(prompts, list(asked.values())) if asked else []
    told = dict(zip(asked, judgements, strict=True))
    judged = []
    for n, (round_, found) in enumerate(rounds):
        logits = _alone(round_, found)
        tokens = 0
        for m, judge in enumerate(round_.judges):
            if (n, m) in told:
                for k, likely in enumerate(said_of(judge, found, told[n, m])):
                    logits[k] += judge.weight * likely
                tokens += told[n, m].prompt_tokens
        judged.append((logits, tokens))
    return judged


def prompt_for(judge: Judge, found: Sequence[Found]) -> Prompt:
    """Return what a judge is asked after: of its passages, those in which something was found."""
    where = {each.number for each in found}
    passages = [text for n, text in enumerate(judge.prompt.passages) if n in where]
    return replace(judge.prompt, passages=tuple(passages))


def texts_for(judge: Judge, found: Sequence[Found]) -> list[str]:
    """Return the texts that a judge is asked about, each once."""
    texts = [each.text for each in found if judge.texts is None or each.number in judge.texts]
    return list(dict.fromkeys(texts if judge.texts is not None else [*texts, ABSTENTION]))


def said_of(judge: Judge, found: Sequence[Found], judgement: Judgement) -> list[float]:
    """Return the log-likelihoods of all that was found, then of nothing; 0 where none was asked.

    Args:
        judge: Whose judgement it is.
        found: Places.
        judgement: Of `texts_for` them.
    """
    likely = dict(zip(texts_for(judge, found), judgement.loglikelihoods, strict=True))
    own = [
        likely[each.text] if judge.texts is None or each.number in judge.texts else 0.0
        for each in found
    ]
    return [*own, likely[ABSTENTION] if judge.texts is None else 0.0]


def _verdict(found: Sequence[Found], logits: Sequence[float], read: int) -> Verdict:
    highest = max(logits)
    total = sum(math.exp(logit - highest) for logit in logits)
    best = logits.index(highest)
    return Verdict(found[best] if best < len(found) else None, 1 / total, read)
