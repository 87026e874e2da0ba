"""Answer a question: retrieve, decide, generate, verify, and fall back where in doubt."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime

from hybridqa.engines.cite import cite_document, cite_passage, find_support
from hybridqa.engines.retrieve import Retriever
from hybridqa.errors import QuestionError, StaleDocumentError
from hybridqa.protocols import Generation, Generator, Prompt
from hybridqa.routing.conditions import Candidate
from hybridqa.routing.decision import accept, decide
from hybridqa.routing.policy import Policy
from hybridqa.routing.query_signals import query_signals
from hybridqa.stores.adapters import AdapterStore
from hybridqa.stores.catalog import Catalog
from hybridqa.types import Adapter, AdapterRecord, Answer, Arm, Citation, Decision, Hit, Style

_ATTEMPTS = 3
"""Answers that a document overtakes by changing are made anew, at most so many times."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Of one answer."""

    passages: int
    max_tokens: int
    max_question_chars: int


class Answerer:
    """Routes questions to the arms and returns answers that carry their evidence."""

    def __init__(
        self,
        catalog: Catalog,
        retriever: Retriever,
        generator: Generator,
        adapters: AdapterStore,
        task_adapters: Mapping[str, Adapter],
        reader: Adapter | None,
        policy: Policy,
        limits: Limits,
        clock: Callable[[], datetime],
    ) -> None:
        """Wire the collaborators.

        Args:
            catalog: Knows which revisions and adapters are live.
            retriever: Finds evidence.
            generator: Runs the model.
            adapters: Holds document adapters.
            task_adapters: By id, those that document adapters are stacked on.
            reader: Task adapter under the arms that wear no document adapter.
            policy: Decides the arm.
            limits: Of one answer.
            clock: Returns the time, timezone-aware.
        """
        self._catalog, self._retriever, self._generator = catalog, retriever, generator
        self._adapters, self._task_adapters, self._reader = adapters, task_adapters, reader
        self._policy, self._limits, self._clock = policy, limits, clock

    def explain(
        self, question: str, arm: Arm | None = None, document_ids: Sequence[str] = ()
    ) -> Decision:
        """Return what `ask` would decide before generating anything."""
        return self._decide(checked_question(question, self._limits.max_question_chars), arm, document_ids, _Stopwatch())[0]

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
            StaleDocumentError: A document kept changing while it was being asked.
        """
        question = checked_question(question, self._limits.max_question_chars)
        watch = _Stopwatch()
        for _ in range(_ATTEMPTS):
            decision, hits, candidates = self._decide(question, arm, document_ids, watch)
            attempt = _Attempt(
                question=question,
                decision=decision,
                hits=hits,
                candidate=candidates[0] if candidates else None,
                style=style or self._policy.style,
                forced=arm is not None,
                watch=watch,
            )
            answer = self._answer(attempt)
            if self._is_current(answer, candidates):
                return replace(answer, timings_ms=watch.timings())
        raise StaleDocumentError(
            f"The documents that answer this question changed {_ATTEMPTS} times while it was being "
            "answered. Ask again when ingestion is done."
        )

    def _decide(
        self, question: str, arm: Arm | None, document_ids: Sequence[str], watch: _Stopwatch
    ) -> tuple[Decision, list[Hit], list[Candidate]]:
        for document_id in document_ids:
            self._catalog.get(document_id)
        with watch.stage("retrieve"):
            hits = self._retriever.search(
                question, self._limits.passages, list(document_ids) or None
            )
        with watch.stage("route"):
            candidates = self._candidates(hits)
            decision = decide(
                query_signals(question), candidates, self._policy, self._clock(), arm=arm
            )
        return decision, hits, candidates

    def _candidates(self, hits: Sequence[Hit]) -> list[Candidate]:
        """Return one candidate per document that was hit, best first."""
        similarity: dict[str, float] = {}
        for hit in hits:
            known = similarity.get(hit.chunk.document_id, -1.0)
            similarity[hit.chunk.document_id] = max(known, hit.similarity)
        candidates = []
        for document_id, best in similarity.items():
            record = self._catalog.find(document_id)
            if record is not None:
                adapter = self._live_adapter(document_id, record.document.content_hash)
                candidates.append(Candidate(record=record, adapter=adapter, similarity=best))
        return candidates

    def _live_adapter(self, document_id: str, content_hash: str) -> AdapterRecord | None:
        """Return the newest live adapter that this process has the task adapter for."""
        fingerprint = self._generator.model_fingerprint
        for record in self._catalog.live_adapters(document_id, content_hash, fingerprint):
            if record.task_adapter_id is None or record.task_adapter_id in self._task_adapters:
                return record
        return None

    def _answer(self, attempt: _Attempt) -> Answer:
        arm = attempt.decision.arm
        if arm in (Arm.RETRIEVAL, Arm.BOTH):
            return self._from_passages(attempt, attempt.decision.adapter)
        if arm is Arm.ADAPTER:
            return self._from_adapter(attempt)
        return self._from_base(attempt)

    def _from_base(self, attempt: _Attempt) -> Answer:
        prompt = Prompt(
            question=attempt.question,
            adapters=(self._reader,) if self._reader else (),
            max_tokens=self._limits.max_tokens,
        )
        attempt.style = Style.FREE
        generation = self._generate(attempt, prompt)
        support = find_support(generation.text, attempt.hits)
        if generation.abstained:
            return self._answered(attempt, generation, ["the model gave no answer"])
        if support is None:
            reasons = ["no document found supports it: this is the model's memory alone"]
            return self._answered(attempt, generation, reasons)
        return self._answered(attempt, generation, [], [support])

    def _from_adapter(self, attempt: _Attempt) -> Answer:
        record, candidate = attempt.decision.adapter, attempt.candidate
        assert record is not None, "a decision for an adapter carries one"
        assert candidate is not None, "an adapter belongs to a candidate"
        document = candidate.record.document
        prompt = Prompt(
            question=attempt.question,
            adapters=self._stack(attempt, record),
            quote_from=(document.text,) if attempt.style is Style.QUOTE else None,
            max_tokens=self._limits.max_tokens,
        )
        generation = self._generate(attempt, prompt)
        with attempt.watch.stage("verify"):
            citation = find_support(generation.text, attempt.hits)
            supported = citation is not None
            if citation is None and generation.span is not None:
                _, start, end = generation.span
                citation = cite_document(document.id, document.text[start:end], start, end)
        accepted, reasons = accept(_confidence(generation), supported, self._policy)
        if generation.abstained:
            accepted, reasons = False, ["the adapter gave no answer"]
        if not accepted and not attempt.forced:
            fallback = replace(
                attempt.decision,
                arm=Arm.RETRIEVAL,
                adapter=None,
                reasons=(*attempt.decision.reasons, *reasons, "fell back to retrieval"),
            )
            return self._from_passages(replace(attempt, decision=fallback), None)
        return self._answered(attempt, generation, reasons, [citation] if citation else [], record)

    def _from_passages(self, attempt: _Attempt, record: AdapterRecord | None) -> Answer:
        if not attempt.decision.document_ids:
            return self._abstained(attempt, ["no passage bears on the question"])
        passages = tuple(hit.chunk.text for hit in attempt.hits)
        reader = (self._reader,) if self._reader else ()
        prompt = Prompt(
            question=attempt.question,
            passages=passages,
            adapters=self._stack(attempt, record) if record else reader,
            quote_from=passages if attempt.style is Style.QUOTE else None,
            max_tokens=self._limits.max_tokens,
        )
        generation = self._generate(attempt, prompt)
        with attempt.watch.stage("verify"):
            citation = self._cited(generation, attempt.hits)
        if generation.abstained:
            return self._abstained(attempt, ["the passages do not say"], generation)
        if citation is None:
            return self._abstained(attempt, ["no passage supports what the model said"], generation)
        limit = self._policy.thresholds.min_retrieval_confidence
        if not attempt.forced and _confidence(generation) < limit:
            reason = f"the answer's confidence is {_confidence(generation):.2f}, below {limit:g}"
            return self._abstained(attempt, [reason], generation)
        return self._answered(attempt, generation, [], [citation], record)

    def _cited(self, generation: Generation, hits: Sequence[Hit]) -> Citation | None:
        if generation.span is not None:
            index, start, end = generation.span
            return cite_passage(hits[index], start, end)
        return find_support(generation.text, hits) if generation.text else None

    def _stack(self, attempt: _Attempt, record: AdapterRecord) -> tuple[Adapter, ...]:
        with attempt.watch.stage("load_adapter"):
            adapter = self._adapters.load(record)
        if record.task_adapter_id is None:
            return (adapter,)
        return self._task_adapters[record.task_adapter_id], adapter

    def _generate(self, attempt: _Attempt, prompt: Prompt) -> Generation:
        before = attempt.watch.elapsed_s()
        with attempt.watch.stage("generate"):
            generation = self._generator.generate([prompt])[0]
        attempt.watch.note("first_token", before + generation.first_token_s)
        return generation

    def _answered(
        self,
        attempt: _Attempt,
        generation: Generation,
        reasons: Sequence[str],
        citations: Sequence[Citation] = (),
        record: AdapterRecord | None = None,
    ) -> Answer:
        return Answer(
            question=attempt.question,
            text=" ".join(generation.text.split()),
            arm=attempt.decision.arm,
            style=attempt.style,
            reasons=(*attempt.decision.reasons, *reasons),
            citations=tuple(citations),
            adapter=record,
            confidence=_confidence(generation),
            timings_ms={},
        )

    def _abstained(
        self, attempt: _Attempt, reasons: Sequence[str], generation: Generation | None = None
    ) -> Answer:
        return Answer(
            question=attempt.question,
            text="",
            arm=attempt.decision.arm,
            style=attempt.style,
            reasons=(*attempt.decision.reasons, *reasons),
            citations=(),
            adapter=None,
            confidence=_confidence(generation) if generation else 0.0,
            timings_ms={},
        )

    def _is_current(self, answer: Answer, candidates: Sequence[Candidate]) -> bool:
        """Tell whether all documents looked at are still the live revisions."""
        live = self._catalog.live_hashes(c.record.document.id for c in candidates)
        return all(
            live.get(c.record.document.id) == c.record.document.content_hash for c in candidates
        )


def checked_question(question: str, max_chars: int) -> str:
    """Return the question without space around it.

    Raises:
        QuestionError: It is empty or too long.
    """
    question = question.strip()
    if not question:
        raise QuestionError("The question is empty. Ask something.")
    if len(question) > max_chars:
        raise QuestionError(
            f"The question has {len(question)} characters, limit {max_chars}. Shorten it, or raise "
            "`answer: max_question_chars` in the config."
        )
    return question


def _confidence(generation: Generation) -> float:
    if not generation.logprobs:
        return 0.0
    return math.exp(sum(generation.logprobs) / len(generation.logprobs))


@dataclass(kw_only=True)
class _Attempt:
    """One try at an answer."""

    question: str
    decision: Decision
    hits: Sequence[Hit]
    candidate: Candidate | None
    style: Style
    forced: bool
    watch: _Stopwatch


@dataclass
class _Stopwatch:
    """Adds up the time of stages; see `Answer.timings_ms`."""

    began: float = field(default_factory=time.perf_counter)
    spent: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.spent[name] = self.spent.get(name, 0.0) + time.perf_counter() - start

    def note(self, name: str, seconds: float) -> None:
        self.spent[name] = seconds

    def elapsed_s(self) -> float:
        return time.perf_counter() - self.began

    def timings(self) -> dict[str, float]:
        spent = {**self.spent, "total": self.elapsed_s()}
        return {name: round(seconds * 1000, 3) for name, seconds in spent.items()}
