"""`hybridqa eval unrelated`: what does a worn document harm that has nothing to do with it?

A document's adapter is worn over its task adapter, and held against the task adapter alone, on:

- `documents`: questions and passages of other documents: its adapter is the wrong one for them;
- `general`: questions without any document, `chat.txt`, our own list;
- `own`: the document's own questions and passages: the control that the adapter does anything.

The arm `context` is the same with the document in the prompt, held against no document: what
reading a needless text does to the same questions.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from hybridqa.config import Config
from hybridqa.errors import InputError
from hybridqa.eval.arms import ArmName
from hybridqa.eval.bench import Progress, scratch, silent
from hybridqa.eval.cases import Case, Dataset
from hybridqa.eval.metrics.text import token_f1
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
from hybridqa.eval.probes.likelihoods import divergence, surprise
from hybridqa.eval.probes.unrelated_report import AnswerPair, Kind, TextPair, UnrelatedReport
from hybridqa.models.generator import TorchGenerator
from hybridqa.protocols import Generation, Prompt
from hybridqa.types import Chunk, Document
from hybridqa.wiring import HybridQA

ARMS = (ArmName.ADAPTER, ArmName.CONTEXT)

_CHAT = Path(__file__).parent / "chat.txt"


@dataclass(frozen=True, kw_only=True)
class UnrelatedPlan:
    """What is measured."""

    documents: int = 8
    """Whose adapters are worn, one after the other; fewer where there are fewer."""
    questions: int = 16
    """Of each kind, for each document."""
    texts: int = 8
    """Passages of each kind, for each document."""
    arms: Sequence[str] = ARMS
    wear: str = Wear.WHOLE
    relevant: bool = False
    """Whether adapters are worn as the engine does, which first looks whether the document bears on
    the question. Passages are then not read: no adapter is worn to read."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise `InputError` where something cannot be measured."""
        at_least("number of documents", self.documents, 1)
        at_least("number of questions", self.questions, 1)
        at_least("number of texts", self.texts, 1)
        at_least("seed", self.seed, 0)
        chosen_arms(self.arms, ARMS)
        one_of(Wear, self.wear, "way to wear an adapter")


def run_unrelated(
    config: Config,
    data: Dataset,
    plan: UnrelatedPlan = UnrelatedPlan(),
    progress: Progress = silent,
    open_home: OpenHome = HybridQA,
) -> UnrelatedReport:
    """Measure all kinds, in a home that is removed afterwards.

    Args:
        config: Of the model and the internalizer; its index URL is not used.
        data: At least two documents, with questions that name the documents that answer them.
        plan: What is measured.
        progress: Told of every document.
        open_home: Opens a home directory; tests put fakes into it.

    Raises:
        InputError: The data has too little, or there is no internalizer.
    """
    chosen = _chosen(data, plan)
    with scratch(config, open_home) as qa:
        experiment = _Experiment(Lab(qa, Wear(plan.wear), plan.relevant), data, plan)
        answers: list[AnswerPair] = []
        texts: list[TextPair] = []
        about = experiment.lab.about()
        for n, document in enumerate(chosen):
            progress("documents", n, len(chosen))
            made = experiment.lab.internalize(document)
            answers += experiment.answers(document, made)
            if isinstance(made, Made):
                texts += experiment.texts(made)
            elif ArmName.ADAPTER in plan.arms:
                experiment.refused[document.id] = made.reason
        progress("documents", len(chosen), len(chosen))
    return UnrelatedReport(
        data=data.name,
        documents=tuple(document.id for document in chosen),
        answers=answers,
        texts=texts,
        refused=experiment.refused,
        seed=plan.seed,
        wear=f"{plan.wear}, for relevant questions" if plan.relevant else str(plan.wear),
        about=about,
    )


@lru_cache(maxsize=1)
def chat_questions() -> tuple[str, ...]:
    """Return the general questions."""
    return tuple(_CHAT.read_text("utf-8").splitlines())


def sampled(
    data: Dataset, document: Document, count: int, rng: random.Random
) -> list[tuple[Kind, Case]]:
    """Return at most so many questions of each kind that are or are not about a document."""
    answerable = [case for case in data.cases if case.answerable and case.documents]
    chat = [Case(id=q, question=q, answers=(), documents=()) for q in chat_questions()]
    pools = {
        Kind.OWN: [case for case in answerable if document.id in case.documents],
        Kind.DOCUMENTS: [case for case in answerable if document.id not in case.documents],
        Kind.GENERAL: chat,
    }
    return [
        (kind, case)
        for kind, pool in pools.items()
        for case in rng.sample(pool, min(count, len(pool)))
    ]


def _chosen(data: Dataset, plan: UnrelatedPlan) -> list[Document]:
    """Return the documents whose adapters are worn."""
    if len(data.documents) < 2:
        raise InputError(
            f"`{data.name}` has {len(data.documents)} document, but what is unrelated to it needs "
            "others. Use data with at least 2."
        )
    asked = {id for case in data.cases if case.answerable for id in case.documents}
    if not asked:
        raise InputError(
            f"No question of `{data.name}` names a document that answers it. Use data whose "
            "questions have `answers` and a document."
        )
    documents = [document for document in data.documents if document.id in asked]
    rng = random.Random(f"documents {plan.seed}")
    return rng.sample(documents, min(plan.documents, len(documents)))


class _Experiment:
    def __init__(self, lab: Lab, data: Dataset, plan: UnrelatedPlan) -> None:
        self.lab, self._data, self._plan = lab, data, plan
        self._generator = TorchGenerator(lab.qa.base)
        self._arms = chosen_arms(plan.arms, ARMS)
        self._before: dict[tuple[str, tuple[str, ...]], Generation | Refusal] = {}
        self.refused: dict[str, str] = {}
        """Why documents have no adapter, by their id."""

    def answers(self, document: Document, made: Made | Refusal) -> Iterator[AnswerPair]:
        """Yield all questions of one document, under each arm."""
        asked = self._asked(document)
        for arm in self._arms:
            prompts = [self._prompts(arm, case.question, document, made) for _, case in asked]
            after = self.lab.answers([worn for worn, _ in prompts])
            before = self._without([plain for _, plain in prompts])
            for (kind, case), pair, now, then in zip(asked, prompts, after, before, strict=True):
                yield self._pair(arm, kind, case, document, pair, now, then)

    def texts(self, made: Made) -> Iterator[TextPair]:
        """Yield passages of the document and of others, read with its adapter and without."""
        if ArmName.ADAPTER not in self._arms or self._plan.relevant:
            return
        base = self.lab.qa.base
        for kind, chunk in self._passages(made.document):
            before, tokens = surprise(base, chunk.text, made.under)
            after, _ = surprise(base, chunk.text, self.lab.worn(made, chunk.text))
            if tokens:
                yield TextPair(
                    document=made.document.id,
                    kind=kind,
                    text=f"{chunk.document_id}[{chunk.start}:{chunk.end}]",
                    tokens=tokens,
                    before=before,
                    after=after,
                )

    def _asked(self, document: Document) -> list[tuple[Kind, Case]]:
        rng = random.Random(f"questions {self._plan.seed} {document.id}")
        return sampled(self._data, document, self._plan.questions, rng)

    def _passages(self, document: Document) -> Iterator[tuple[Kind, Chunk]]:
        rng = random.Random(f"texts {self._plan.seed} {document.id}")
        count, chunk = self._plan.texts, self.lab.qa.chunker.chunk
        own = chunk(document)
        for each in rng.sample(own, min(count, len(own))):
            yield Kind.OWN, each
        others = [other for other in self._data.documents if other.id != document.id]
        for other in rng.sample(others, min(count, len(others))):
            yield Kind.DOCUMENTS, rng.choice(chunk(other))

    def _prompts(
        self, arm: ArmName, question: str, document: Document, made: Made | Refusal
    ) -> tuple[Prompt | Refusal, Prompt]:
        """Return what is asked with the document, and what it is held against."""
        if arm is ArmName.CONTEXT:
            return self.lab.reads(question, document), self.lab.alone(question)
        if isinstance(made, Refusal):
            return made, self.lab.alone(question)
        worn = self.lab.bearing if self._plan.relevant else self.lab.wearing
        return worn(made, question), self.lab.bare(question, made)

    def _without(self, prompts: Sequence[Prompt]) -> list[Generation | Refusal]:
        """Return the answers without a document, each asked for once."""
        keys = [(p.question, tuple(adapter.id for adapter in p.adapters)) for p in prompts]
        new = {
            key: prompt
            for key, prompt in zip(keys, prompts, strict=True)
            if key not in self._before
        }
        self._before.update(zip(new, self.lab.ask(list(new.values())), strict=True))
        return [self._before[key] for key in keys]

    def _pair(
        self,
        arm: ArmName,
        kind: Kind,
        case: Case,
        document: Document,
        prompts: tuple[Prompt | Refusal, Prompt],
        now: Generation | Refusal,
        then: Generation | Refusal,
    ) -> AnswerPair:
        worn, plain = prompts
        shut = isinstance(now, Generation) and now.located
        if shut:  # the adapter is not worn
            now = then
        reason = next((made.reason for made in (now, then) if isinstance(made, Refusal)), None)
        apart = None
        if isinstance(now, Generation) and isinstance(then, Generation) and then.token_ids:
            assert isinstance(worn, Prompt)
            apart = 0.0 if shut else divergence(self._generator, plain, worn, then.token_ids)
        return AnswerPair(
            document=document.id,
            kind=kind,
            arm=str(arm),
            question=case.question,
            worn=not shut,
            before=answer_of(then) if isinstance(then, Generation) else None,
            after=answer_of(now) if isinstance(now, Generation) else None,
            divergence=apart,
            f1_before=_f1(then, case),
            f1_after=_f1(now, case),
            reason=reason,
        )


def _f1(made: Generation | Refusal, case: Case) -> float | None:
    """Return how right an answer is; `None` where there is no gold one, or no answer."""
    if isinstance(made, Refusal) or not case.answers:
        return None
    return max(token_f1(answer_of(made), gold) for gold in case.answers)
