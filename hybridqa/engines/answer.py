"""Answer a question: route, generate, verify, and fall back where in doubt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hybridqa.engines.cite import cite_document, cite_passage, find_support, within
from hybridqa.engines.route import Routed, Router
from hybridqa.engines.stopwatch import Stopwatch
from hybridqa.errors import CorruptAdapterError, QuestionError, StaleDocumentError
from hybridqa.internalize.compress import take_shares
from hybridqa.protocols import Generation, Generator, Prompt
from hybridqa.routing.decision import accept
from hybridqa.stores.adapters import AdapterStore
from hybridqa.types import (
    Adapter,
    AdapterRecord,
    Answer,
    Arm,
    Citation,
    Decision,
    Hit,
    Style,
)

_ATTEMPTS = 3
"""Answers that a document overtakes by changing are made anew, at most so many times."""


@dataclass(frozen=True, kw_only=True)
class _Attempt:
    """One try at an answer."""

    question: str
    routed: Routed
    decision: Decision
    """As routed, until an adapter's answer is dropped."""
    style: Style
    forced: bool
    """The caller chose the arm: its answer is given, whatever the checks say."""
    watch: Stopwatch

    @property
    def hits(self) -> Sequence[Hit]:
        return self.routed.hits


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
        """
        self._router, self._generator, self._adapters = router, generator, adapters
        self._task_adapters, self._reader = task_adapters, reader
        self._passages = passages
        self._max_tokens, self._max_question_chars = max_tokens, max_question_chars

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
        question = checked_question(question, self._max_question_chars)
        watch = Stopwatch()
        for _ in range(_ATTEMPTS):
            routed = self._router.route(question, arm, document_ids, watch)
            attempt = _Attempt(
                question=question,
                routed=routed,
                decision=routed.decision,
                style=style or self._router.policy.style,
                forced=arm is not None,
                watch=watch,
            )
            try:
                answer = self._answer(attempt)
            except CorruptAdapterError:  # gone, because its document was deleted meanwhile?
                if self._router.is_current(routed):
                    raise
                continue
            if self._router.is_current(routed):
                return replace(answer, timings_ms=watch.timings_ms())
        raise StaleDocumentError(
            f"The documents that answer this question changed {_ATTEMPTS} times while it was being "
            "answered. Ask again when ingestion is done."
        )

    def _answer(self, attempt: _Attempt) -> Answer:
        arm = attempt.decision.arm
        try:
            if arm in (Arm.RETRIEVAL, Arm.BOTH):
                return self._from_passages(attempt, attempt.decision.adapter)
            if arm is Arm.ADAPTER:
                return self._from_adapter(attempt)
        except CorruptAdapterError as exc:
            if attempt.forced:
                raise
            return self._fall_back(attempt, [str(exc)])
        return self._from_base(attempt)

    def _from_base(self, attempt: _Attempt) -> Answer:
        attempt = replace(attempt, style=Style.FREE)
        prompt = Prompt(
            question=attempt.question, adapters=self._reading(), max_tokens=self._max_tokens
        )
        generation = self._generate(attempt, prompt)
        if generation.abstained:
            return _answer(attempt, generation, ["the model gave no answer"])
        support = find_support(generation.text, attempt.hits)
        if support is None:
            reasons = ["no document found supports it: this is the model's memory alone"]
            return _answer(attempt, generation, reasons)
        return _answer(attempt, generation, citation=support)

    def _from_adapter(self, attempt: _Attempt) -> Answer:
        record, document = attempt.decision.adapter, attempt.routed.candidates[0].record.document
        assert record is not None, "a decision for an adapter carries one"
        number = best_share(record, attempt.hits)
        start, end = record.shares[number]
        prompt = Prompt(
            question=attempt.question,
            adapters=self._wearing(attempt, record, number),
            quote_from=(document.text[start:end],) if attempt.style is Style.QUOTE else None,
            max_tokens=self._max_tokens,
        )
        generation = self._generate(attempt, prompt)
        with attempt.watch.stage("verify"):
            citation = find_support(generation.text, attempt.hits)
            if generation.span is not None:
                first, last = (start + at for at in generation.span[1:])
                citation = cite_document(document.id, document.text[first:last], first, last)
            support = self._support(attempt, generation.text, citation)
            accepted, reasons = accept(generation.confidence, support, self._router.policy)
        if generation.abstained:
            accepted, reasons = False, ["the adapter gave no answer"]
        if accepted or attempt.forced:
            return _answer(attempt, generation, reasons, citation, record)
        return self._fall_back(attempt, reasons)

    def _fall_back(self, attempt: _Attempt, reasons: Sequence[str]) -> Answer:
        """Answer by retrieval after all."""
        decision = replace(
            attempt.decision,
            arm=Arm.RETRIEVAL,
            adapter=None,
            reasons=(*attempt.decision.reasons, *reasons, "fell back to retrieval"),
        )
        return self._from_passages(replace(attempt, decision=decision), None)

    def _support(self, attempt: _Attempt, answer: str, citation: Citation | None) -> float:
        """Return how likely the reader finds an answer given the one passage that it stands in.

        Reading one passage without writing is a fraction of the work of answering from several.
        """
        if citation is None or not self._router.policy.checks.support:
            return 0.0
        passage = next((hit.chunk.text for hit in attempt.hits if within(citation, [hit])), None)
        if passage is None:
            return 0.0
        prompt = Prompt(
            question=attempt.question, passages=(passage,), adapters=self._reading(), max_tokens=0
        )
        return self._generator.score([prompt], [answer])[0]

    def _from_passages(self, attempt: _Attempt, record: AdapterRecord | None) -> Answer:
        if not attempt.decision.document_ids:
            return _answer(attempt, None, ["no passage bears on the question"])
        passages = tuple(hit.chunk.text for hit in attempt.hits[: self._passages])
        adapters = self._reading()
        if record:
            # With passages to read, the share goes on the reader rather than on its own task
            # adapter, which was trained without any (F1 0.52 against 0.39 on 48 questions).
            adapters = (*adapters, self._share(attempt, record, best_share(record, attempt.hits)))
        prompt = Prompt(
            question=attempt.question,
            passages=passages,
            adapters=adapters,
            quote_from=passages if attempt.style is Style.QUOTE else None,
            max_tokens=self._max_tokens,
        )
        generation = self._generate(attempt, prompt)
        with attempt.watch.stage("verify"):
            citation = _cited(generation, attempt.hits)
        limit = self._router.policy.thresholds.min_retrieval_confidence
        if generation.abstained:
            reason = "the passages do not say"
        elif citation is None:
            reason = "no passage supports what the model said"
        elif generation.confidence < limit and not attempt.forced:
            reason = f"the answer's confidence is {generation.confidence:.2f}, below {limit:g}"
        else:
            return _answer(attempt, generation, [], citation, record)
        return _answer(attempt, replace(generation, text=""), [reason])

    def _reading(self) -> tuple[Adapter, ...]:
        return (self._reader,) if self._reader else ()

    def _wearing(
        self, attempt: _Attempt, record: AdapterRecord, number: int
    ) -> tuple[Adapter, ...]:
        """Return what to wear: the task adapter, and one share of the adapter."""
        share = self._share(attempt, record, number)
        if record.task_adapter_id is None:
            return (share,)
        return self._task_adapters[record.task_adapter_id], share

    def _share(self, attempt: _Attempt, record: AdapterRecord, number: int) -> Adapter:
        with attempt.watch.stage("load_adapter"):
            return take_shares(self._adapters.load(record), [number], len(record.shares))

    def _generate(self, attempt: _Attempt, prompt: Prompt) -> Generation:
        before_s = attempt.watch.elapsed_s
        with attempt.watch.stage("generate"):
            generation = self._generator.generate([prompt])[0]
        attempt.watch.note("first_token", before_s + generation.first_token_s)
        return generation


def checked_question(question: str, max_chars: int) -> str:
    """Return the question without space around it.

    Raises:
        QuestionError: It is empty, too long, or holds what no encoding can.
    """
    question = question.replace("\0", " ").strip()
    if not question:
        raise QuestionError("The question is empty. Ask something.")
    if len(question) > max_chars:
        raise QuestionError(
            f"The question has {len(question)} characters, limit {max_chars}. Shorten it, or raise "
            "`answer: max_question_chars` in the config."
        )
    try:
        question.encode()
    except UnicodeEncodeError as exc:
        raise QuestionError(
            f"The question is not UTF-8 at character {exc.start}: {question[exc.start]!a}. "
            "Set the terminal to UTF-8, or type it anew."
        ) from exc
    return question


def _answer(
    attempt: _Attempt,
    generation: Generation | None,
    reasons: Sequence[str] = (),
    citation: Citation | None = None,
    record: AdapterRecord | None = None,
) -> Answer:
    """Put an answer together; without a generation, or with an empty one, it abstains."""
    return Answer(
        question=attempt.question,
        text=" ".join(generation.text.split()) if generation else "",
        arm=attempt.decision.arm,
        style=attempt.style,
        reasons=(*attempt.decision.reasons, *reasons),
        citations=(citation,) if citation else (),
        adapter=record,
        confidence=generation.confidence if generation else 0.0,
        timings_ms={},
    )


def _cited(generation: Generation, hits: Sequence[Hit]) -> Citation | None:
    if generation.span is not None:
        index, start, end = generation.span
        return cite_passage(hits[index], start, end)
    return find_support(generation.text, hits)


def best_share(record: AdapterRecord, hits: Sequence[Hit]) -> int:
    """Return the number of the adapter's share whose span the best hit in its document lies in."""
    chunk = next(hit.chunk for hit in hits if hit.chunk.document_id == record.document_id)
    overlaps = [min(end, chunk.end) - max(start, chunk.start) for start, end in record.shares]
    return overlaps.index(max(overlaps))
