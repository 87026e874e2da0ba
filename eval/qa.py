"""`hybridqa eval qa`: the same questions under every arm, scored and compared."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hybridqa.config import Config
from hybridqa.errors import HybridQAError, InputError, QuestionError
from hybridqa.eval.arms import ArmName, StyledArm, comparisons, parse_arms, styled
from hybridqa.eval.bench import Bench, Progress, scratch, silent
from hybridqa.eval.datasets import Case, Sample, read_passages, sample
from hybridqa.eval.machine import machine
from hybridqa.eval.metrics import Scores, score
from hybridqa.eval.statistics import (
    Interval,
    difference_interval,
    mean_interval,
    ratio_interval,
)
from hybridqa.protocols import Generation, Generator, Prompt
from hybridqa.wiring import HybridQA

DEFAULT_ARMS = tuple(arm for arm in ArmName if arm is not ArmName.AUTO)

_CONTEXT = "context"
_BATCH_CHARS = 48_000  # of all prompts of a batch, padded: bounds memory where passages are long


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one arm made of one question."""

    answer: str
    """Empty when it abstained or failed."""
    scores: Scores
    confidence: float
    """Geometric mean of the answer's token probabilities, in [0, 1]."""
    route: str
    """The arm that answered; differs from the arm asked only under `auto`."""
    error: str | None = None
    """Why it could not be asked at all: the prompt is too long, there is no adapter."""


@dataclass(frozen=True, kw_only=True)
class QaRow:
    """One question with its outcomes by arm."""

    passage: str
    """Its id."""
    question: str
    answers: tuple[str, ...]
    """Gold."""
    outcomes: Mapping[str, Outcome]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class ArmReport:
    """The scores of one arm over all questions, with 95 % intervals."""

    f1: Interval
    exact_match: Interval
    rouge_l: Interval
    relative_to_context: Interval | None
    """Mean F1 / mean F1 of `context`; `None` where that was not run or is 0."""
    abstained: int
    failed: int
    """Questions that could not be asked; they count as wrong."""
    routes: Mapping[str, int]
    seconds: float
    """For all questions, in batches (`auto`: one by one)."""

    def as_dict(self) -> dict[str, Any]:
        relative = self.relative_to_context
        return {
            "f1": self.f1.as_dict(),
            "exact_match": self.exact_match.as_dict(),
            "rouge_l": self.rouge_l.as_dict(),
            "relative_to_context": relative.mean if relative else None,
            "relative_to_context_interval": relative.as_dict() if relative else None,
            "abstained": self.abstained,
            "failed": self.failed,
            "routes": dict(self.routes),
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True, kw_only=True)
class QaReport:
    """A comparison of arms on one question set."""

    data: str
    seed: int
    rows: tuple[QaRow, ...]
    arms: Mapping[str, ArmReport]
    differences: Mapping[str, Interval]
    """Mean F1 of one arm minus another's, paired, by `one - other`."""
    skipped: int
    """Questions of the file without a gold answer."""
    passages: int
    """That retrieval had to search."""
    warnings: Mapping[str, str]
    """Why passages have no adapter, by passage id."""
    model: Mapping[str, str]
    machine: Mapping[str, str | int | None]

    @property
    def n(self) -> int:
        return len(self.rows)

    def as_dict(self) -> dict[str, Any]:
        """Return what `hybridqa eval qa --json` prints."""
        return {
            "data": self.data,
            "n": self.n,
            "seed": self.seed,
            "arms": {name: arm.as_dict() for name, arm in self.arms.items()},
            "differences": {name: d.as_dict() for name, d in self.differences.items()},
            "passages": self.passages,
            "skipped": self.skipped,
            "warnings": dict(self.warnings),
            "model": dict(self.model),
            "machine": dict(self.machine),
        }


def run_qa(
    config: Config,
    data: str | Path,
    arms: Sequence[str] = DEFAULT_ARMS,
    limit: int | None = None,
    seed: int = 0,
    batch_size: int = 16,
    progress: Progress = silent,
) -> QaReport:
    """Compare arms on a question set, in a home directory of its own that is removed afterwards.

    Args:
        config: Of the model and its limits; its index URL is not used.
        data: `.jsonl` or `.jsonl.gz`; see `datasets`.
        arms: Names from `ArmName`.
        limit: Most questions; `None` asks all.
        seed: Of the choice of questions and of the intervals.
        batch_size: Most prompts that the model reads at once.
        progress: Told of every step.

    Raises:
        InputError: File, arms, limit or batch size cannot be used.
    """
    chosen = parse_arms(arms)
    if batch_size < 1:
        raise InputError(f"The batch size must be at least 1, got {batch_size}.")
    questions = sample(read_passages(data), limit, seed)
    with scratch(config) as qa:
        return compare(qa, questions, chosen, str(data), seed, batch_size, progress)


def compare(
    qa: HybridQA,
    questions: Sample,
    arms: Sequence[ArmName],
    data: str = "",
    seed: int = 0,
    batch_size: int = 16,
    progress: Progress = silent,
) -> QaReport:
    """Do what `run_qa` does with a system whose home is empty."""
    bench = Bench(qa, questions, arms)
    bench.prepare(progress)
    names = styled(arms)
    outcomes: dict[str, list[Outcome]] = {}
    seconds: dict[str, float] = {}
    for arm in names:
        began = time.perf_counter()
        if arm.arm is ArmName.AUTO:
            outcomes[str(arm)] = _routed(qa, questions.cases, progress)
        else:
            outcomes[str(arm)] = _answers(
                qa.generator, bench, arm, questions.cases, batch_size, progress
            )
        seconds[str(arm)] = time.perf_counter() - began
    clusters = [case.passage.id for case in questions.cases]
    f1 = {name: [o.scores.f1 for o in of_arm] for name, of_arm in outcomes.items()}
    return QaReport(
        data=data,
        seed=seed,
        rows=tuple(
            QaRow(
                passage=case.passage.id,
                question=case.question,
                answers=case.answers,
                outcomes={name: of_arm[n] for name, of_arm in outcomes.items()},
            )
            for n, case in enumerate(questions.cases)
        ),
        arms={
            name: _arm_report(of_arm, f1.get(_CONTEXT), clusters, seed, seconds[name])
            for name, of_arm in outcomes.items()
        },
        differences={
            f"{one} - {other}": difference_interval(f1[str(one)], f1[str(other)], clusters, seed)
            for one, other in comparisons(names)
        },
        skipped=questions.skipped,
        passages=len(questions.passages),
        warnings=bench.warnings,
        model=_model(qa, bench),
        machine=machine(str(qa.base.device)),
    )


def _answers(
    generator: Generator,
    bench: Bench,
    arm: StyledArm,
    cases: Sequence[Case],
    batch_size: int,
    progress: Progress,
) -> list[Outcome]:
    """Ask all questions under an arm, those with prompts of like length together."""
    lengths = [bench.length(arm, case) for case in cases]
    outcomes: dict[int, Outcome] = {}
    for batch in _batches(lengths, batch_size):
        prompts = {n: bench.prompt(arm, cases[n]) for n in batch}
        ready = {n: prompt for n, prompt in prompts.items() if prompt is not None}
        made = dict(zip(ready, _generate(generator, list(ready.values())), strict=True))
        for n in batch:
            outcomes[n] = _outcome(arm, made.get(n, "there is no adapter to wear"), cases[n])
        progress(str(arm), len(outcomes), len(cases))
    return [outcomes[n] for n in range(len(cases))]


def _batches(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Yield positions in `lengths`, shortest first."""
    batch: list[int] = []
    for n in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) == size or (len(batch) + 1) * lengths[n] > _BATCH_CHARS):
            yield batch
            batch = []
        batch.append(n)
    yield batch


def _generate(generator: Generator, prompts: Sequence[Prompt]) -> list[Generation | str]:
    """Return generations, or for prompts that do not fit the model why not."""
    try:
        return list(generator.generate(prompts))
    except QuestionError as exc:
        if len(prompts) == 1:
            return [str(exc)]
        return [made for prompt in prompts for made in _generate(generator, [prompt])]


def _outcome(arm: StyledArm, made: Generation | str, case: Case) -> Outcome:
    answer = "" if isinstance(made, str) else " ".join(made.text.split())
    return Outcome(
        answer=answer,
        scores=score(answer, case.answers),
        confidence=0.0 if isinstance(made, str) else made.confidence,
        route=str(arm.arm),
        error=made if isinstance(made, str) else None,
    )


def _routed(qa: HybridQA, cases: Sequence[Case], progress: Progress) -> list[Outcome]:
    """Ask as a user would."""
    outcomes = []
    for n, case in enumerate(cases, 1):
        try:
            given = qa.ask(case.question)
        except HybridQAError as exc:
            outcome = Outcome(
                answer="",
                scores=score("", case.answers),
                confidence=0.0,
                route=str(ArmName.AUTO),
                error=str(exc),
            )
        else:
            outcome = Outcome(
                answer=given.text,
                scores=score(given.text, case.answers),
                confidence=given.confidence,
                route=str(given.arm),
            )
        outcomes.append(outcome)
        progress(str(ArmName.AUTO), n, len(cases))
    return outcomes


def _arm_report(
    outcomes: Sequence[Outcome],
    context_f1: Sequence[float] | None,
    clusters: Sequence[str],
    seed: int,
    seconds: float,
) -> ArmReport:
    f1 = [outcome.scores.f1 for outcome in outcomes]
    return ArmReport(
        f1=mean_interval(f1, clusters, seed),
        exact_match=mean_interval([o.scores.exact_match for o in outcomes], clusters, seed),
        rouge_l=mean_interval([o.scores.rouge_l for o in outcomes], clusters, seed),
        relative_to_context=ratio_interval(f1, context_f1, clusters, seed) if context_f1 else None,
        abstained=sum(not o.answer and o.error is None for o in outcomes),
        failed=sum(o.error is not None for o in outcomes),
        routes=dict(Counter(o.route for o in outcomes)),
        seconds=seconds,
    )


def _model(qa: HybridQA, bench: Bench) -> dict[str, str]:
    settings = qa.config
    described = {
        "name": qa.base.name,
        "fingerprint": qa.base.fingerprint,
        "dtype": settings.model.dtype,
        "reader": qa.reader.id if qa.reader else "none",
        "policy": qa.policy.name,
        "passages": str(settings.answer.passages),
        "max_tokens": str(settings.answer.max_tokens),
        "rank": str(settings.internalize.rank),
    }
    if bench.internalizer:
        described["internalizer"] = bench.internalizer.name
        described["internalizer_fingerprint"] = bench.internalizer.fingerprint
    return described
