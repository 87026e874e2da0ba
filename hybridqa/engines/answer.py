"""Answer a question: route, generate, verify, and fall back where in doubt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hybridqa.engines.choose import Chooser
from hybridqa.engines.cite import cite_answer, told_of_wording, within
from hybridqa.engines.follow import attempted, follow
from hybridqa.engines.meter import Meter
from hybridqa.engines.prompts import Prompts, Worn
from hybridqa.engines.read import Readings
from hybridqa.engines.request import checked_question
from hybridqa.engines.route import Routed, Router
from hybridqa.engines.trace import Trace
from hybridqa.errors import CorruptAdapterError, StaleDocumentError
from hybridqa.protocols import Generation, Generator, Locator
from hybridqa.stores.adapters import AdapterStore
from hybridqa.types import (
    Adapter,
    AdapterRecord,
    Answer,
    Arm,
    Attempt,
    Citation,
    Decision,
    Style,
)

_ROUNDS = 3
"""Answers that a document overtakes by changing are made anew, at most so many times."""


@dataclass(frozen=True, kw_only=True)
class _Task:
    """A question on its way."""

    question: str
    routed: Routed
    style: Style
    forced: bool
    """The caller chose the arm: its answer is given, whatever the checks say."""
    meter: Meter


@dataclass(frozen=True, kw_only=True)
class _Made:
    """What an arm made of a question."""

    generation: Generation
    citation: Citation | None
    support: float | None = None
    record: AdapterRecord | None = None
    """Of the adapter worn."""


class Answerer:
    """Takes a question through its arm to an answer that carries its evidence."""

    def __init__(
        self,
        router: Router,
        generator: Generator,
        adapters: AdapterStore,
        task_adapters: Mapping[str, Adapter],
        reader: Adapter | None,
        passages: int,
        max_tokens: int,
        max_question_chars: int,
        count_tokens: Callable[[str], int] | None = None,
        realm: str = "",
        locator: Locator | None = None,
    ) -> None:
        """Wire the collaborators.

        Args:
            router: Finds evidence and decides.
            generator: Runs the model.
            adapters: Holds document adapters.
            task_adapters: By id, those that document adapters are stacked on.
            reader: Task adapter under the arms that wear no document adapter.
            passages: Best hits that stand in a prompt.
            max_tokens: Of an answer.
            max_question_chars: Of a question.
            count_tokens: As for `Meter`.
            realm: As in `Prompt`.
            locator: Chooses what is read; see `Chooser`.
        """
        self._router, self._generator, self._count_tokens = router, generator, count_tokens
        self._prompts = Prompts(adapters, task_adapters, reader, max_tokens, realm)
        self._max_question_chars = max_question_chars
        chooser = Chooser(locator, self._prompts.kept, passages)
        self._readings = Readings(self._prompts, chooser, passages)

    def explain(
        self, question: str, arm: Arm | None = None, document_ids: Sequence[str] = ()
    ) -> Decision:
        """Return what `ask` would decide before generating anything."""
        question = checked_question(question, self._max_question_chars)
        return self._router.route(question, arm, document_ids).decision

    def ask(
        self,
        question: str,
        arm: Arm | None = None,
        document_ids: Sequence[str] = (),
        style: Style | None = None,
    ) -> Answer:
        """Answer a question.

        Args:
            question: In plain words.
            arm: The caller's choice; `None` lets the policy decide.
            document_ids: Answer from these documents only; empty searches all.
            style: The caller's choice; `None` takes the policy's.

        Raises:
            QuestionError: The question is empty or too long.
            UnknownDocumentError: A named document does not exist.
            NoLiveAdapterError: `arm` wears an adapter and the document has none.
            AdapterMismatchError: It has one, but for another base model.
            CorruptAdapterError: It has one, whose files are damaged.
            StaleDocumentError: A document kept changing while it was being asked.
        """
        return self.trace(question, arm, document_ids, style).result()

    def trace(
        self,
        question: str,
        arm: Arm | None = None,
        document_ids: Sequence[str] = (),
        style: Style | None = None,
        on_routed: Callable[[Routed], None] = lambda routed: None,
    ) -> Trace:
        """Answer a question as `ask` does, and return all that there is to tell of it.

        Args:
            question: As for `ask`, like the next three.
            arm: See there.
            document_ids: See there.
            style: See there.
            on_routed: Called when an arm is decided on; again if a document changed meanwhile.

        What goes wrong before an arm is decided on is raised, what goes wrong later is in it.
        """
        question = checked_question(question, self._max_question_chars)
        meter = Meter(self._generator, self._count_tokens)
        for _ in range(_ROUNDS):
            routed = self._router.route(question, arm, document_ids, meter.watch)
            on_routed(routed)
            task = _Task(
                question=question,
                routed=routed,
                style=style or routed.policy.style,
                forced=arm is not None,
                meter=meter,
            )
            outcome = self._outcome(task)
            if self._router.is_current(routed):
                break
        else:
            outcome = StaleDocumentError(
                f"The documents that answer this question changed {_ROUNDS} times while it was "
                "being answered. Ask again when ingestion is done."
            )
        return Trace(
            question=question,
            asked_arm=arm,
            asked_documents=tuple(document_ids),
            asked_style=style,
            style=task.style,
            routed=routed,
            outcome=outcome,
            timings_ms=meter.watch.timings_ms(),
            prompt_tokens=meter.prompt_tokens,
            completion_tokens=meter.completion_tokens,
        )

    def _outcome(self, task: _Task) -> Answer | Exception:
        try:
            return self._answer(task)
        except Exception as exc:  # told in the trace, and raised by its `result`
            return exc

    def _answer(self, task: _Task) -> Answer:
        made: dict[Arm, _Made] = {}

        def attempt(arm: Arm) -> Attempt:
            began_s = task.meter.watch.elapsed_s
            try:
                made[arm] = self._make(task, arm)
            except CorruptAdapterError as exc:
                if task.forced:
                    raise
                return _attempt(arm, exc, task.meter.watch.elapsed_s - began_s)
            return _attempt(arm, made[arm], task.meter.watch.elapsed_s - began_s)

        way = follow(task.routed.decision, attempt, task.routed.policy, task.forced)
        given = made[way.arm] if way.given else None
        style = Style.FREE if way.arm is Arm.BASE else task.style
        told = told_of_wording(given.generation, style) if given else ()
        return Answer(
            question=task.question,
            text=way.given.text if way.given else "",
            arm=way.arm,
            style=style,
            reasons=(*way.reasons, *told),
            citations=(given.citation,) if given and given.citation else (),
            adapter=given.record if given else None,
            confidence=way.attempts[-1].confidence if way.attempts else 0.0,
            timings_ms=task.meter.watch.timings_ms(),
            attempts=way.attempts,
            prompt_tokens=task.meter.prompt_tokens,
            completion_tokens=task.meter.completion_tokens,
        )

    def _make(self, task: _Task, arm: Arm) -> _Made:
        if arm is Arm.BASE:
            generation = task.meter.generate(self._prompts.alone(task.question))
            citation = cite_answer(generation, (), task.routed.hits)
            return _Made(generation=generation, citation=citation)
        record = task.routed.decision.adapter
        if arm is Arm.ADAPTER:
            assert record is not None, "a decision for an adapter carries one"
            return self._from_adapter(task, record)
        return self._from_passages(task, record if arm is Arm.BOTH else None)

    def _from_adapter(self, task: _Task, record: AdapterRecord) -> _Made:
        hits, document = task.routed.hits, task.routed.candidates[0].record.document
        thresholds = task.routed.policy.thresholds
        worn = Worn.by(record, hits, thresholds.min_relevance)
        with task.meter.watch.stage("load_adapter"):
            prompt = self._prompts.worn(task.question, worn, task.style, document.text)
        source = document.chunk(0 if prompt.places else record.shares[worn.number][0])
        generation = task.meter.generate(prompt)
        with task.meter.watch.stage("verify"):
            citation = cite_answer(generation, [source], hits)
            support = self._support(task, generation, citation)
        return _Made(generation=generation, citation=citation, support=support, record=record)

    def _support(
        self, task: _Task, generation: Generation, citation: Citation | None
    ) -> float | None:
        """Return how likely the reader finds an answer given the one passage that it stands in.

        Reading one passage without writing is a fraction of the work of answering from several. A
        locator that found the answer has looked at the passage already.
        """
        inside = [hit for hit in task.routed.hits if citation and within(citation, [hit])]
        if not inside:
            return 0.0
        if not task.routed.policy.checks.support:
            return None
        if generation.located:
            return generation.confidence
        return task.meter.score(
            self._prompts.check(task.question, inside[0].chunk.text), generation
        )

    def _from_passages(self, task: _Task, record: AdapterRecord | None) -> _Made:
        routed, watch = task.routed, task.meter.watch
        reading = self._readings.make(
            task.question,
            routed.hits,
            {each.record.document.id: each.adapter for each in routed.candidates},
            task.style,
            routed.policy.thresholds,
            record,
            watch,
        )
        generation = task.meter.generate(reading.prompt)
        with watch.stage("verify"):
            read = [hit.chunk for hit in reading.hits]
            citation = cite_answer(generation, read, reading.hits)
        return _Made(generation=generation, citation=citation, record=record)


def _attempt(arm: Arm, made: _Made | CorruptAdapterError, seconds: float) -> Attempt:
    milliseconds = round(seconds * 1000, 3)
    if isinstance(made, CorruptAdapterError):
        return Attempt(
            arm=arm,
            text="",
            abstained=True,
            cited=False,
            confidence=0.0,
            error=str(made),
            milliseconds=milliseconds,
        )
    return attempted(arm, made.generation, made.citation, milliseconds, made.support)
