"""What the generator is asked for a question under an arm: the prompts of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hybridqa.engines.choose import Chooser
from hybridqa.engines.prompts import Prompts, Worn
from hybridqa.engines.read import Readings
from hybridqa.engines.stopwatch import Stopwatch
from hybridqa.eval.arms import SEARCHING, TRAINED, WEARING, ArmName, StyledArm
from hybridqa.eval.bench import Bench
from hybridqa.eval.cases import Case
from hybridqa.protocols import Prompt
from hybridqa.types import Adapter, AdapterRecord, Chunk, Hit, Style
from hybridqa.wiring import HybridQA

_LOCATED = (StyledArm(ArmName.ADAPTER, Style.QUOTE), StyledArm(ArmName.ADAPTER, Style.EITHER))
"""Of the others, `distilled` and `refined` are to show what their weights know, and another
document's adapter has no places in this one's text."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """What the generator is asked for one question under one arm, and what that rests on."""

    prompt: Prompt
    hits: Sequence[Hit]
    """What was found: in all documents, or in the question's own."""
    sources: Sequence[Chunk]
    """Where each text of `prompt.quote_from` stands; filled whether it is quoted or not."""
    contexts: Sequence[Chunk]
    """Where each passage of the prompt stands."""
    record: AdapterRecord | None
    """Of the document adapter that is worn."""


def reading_of(qa: HybridQA) -> tuple[Prompts, Readings]:
    """Return what builds prompts, and what is read, as the home's engine does."""
    config = qa.config.answer
    prompts = Prompts(qa.adapters, qa.task_adapters, qa.reader, config.max_tokens)
    chooser = Chooser(qa.locator, prompts.kept, config.passages)
    return prompts, Readings(prompts, chooser, config.passages)


class Requests:
    """Builds them, as the engine builds a user's."""

    def __init__(self, qa: HybridQA, bench: Bench) -> None:
        """Wire the pieces.

        Args:
            qa: Holds the bench's documents.
            bench: Prepared before anything is asked for.
        """
        self._qa, self._bench = qa, bench
        self._passages = qa.config.answer.passages
        self._prompts, self._readings = reading_of(qa)

    def read(self, case: Case, style: Style) -> Sequence[Hit]:
        """Return which of what was found the model reads to answer in a style."""
        hits = self._bench.retrieved(case)
        return self._readings.hits(case.question, hits, self._adapters(hits), style)

    def length(self, arm: StyledArm, case: Case) -> int:
        """Return about how many characters the prompt of `request` has."""
        if arm.arm is ArmName.CONTEXT:
            read = [self._bench.document(id).text for id in self._bench.own(case)]
        elif arm.arm in SEARCHING:
            read = [hit.chunk.text for hit in self._bench.retrieved(case)[: self._passages]]
        else:
            read = []
        return len(case.question) + sum(map(len, read))

    def request(self, arm: StyledArm, case: Case, watch: Stopwatch) -> Request | None:
        """Return what is asked under an arm (not `auto`); `None` if there is no adapter to wear.

        Requests hold adapters, so make them late.

        Args:
            arm: With its style.
            case: The question.
            watch: Told the time of `retrieve`, `load_adapter` and `choose`.
        """
        searching, own = arm.arm in SEARCHING, self._bench.own(case)
        if searching or arm.arm in WEARING:
            most = self._qa.config.answer.hits if searching else self._passages
            with watch.stage("retrieve"):
                found = self._qa.retriever.search(case.question, most, None if searching else own)
        else:  # nothing need be found to answer, but the answer is cited
            found = self._bench.own_hits(case)
        if searching:
            return self._reading(arm, case, found, watch)
        worn = self._worn(arm, case, found, watch)
        if worn is None:
            return None
        adapters, record = worn
        if arm.arm is ArmName.CONTEXT or arm.arm in TRAINED:
            sources = [self._bench.document(id).chunk() for id in own]
        else:  # the part of its document that the adapter's share was made from
            sources = [hit.chunk for hit in self._bench.own_hits(case)[:1]]
        contexts = sources if arm.arm is ArmName.CONTEXT else []
        located = self._located(arm, case, record, found) if arm in _LOCATED and record else None
        if located and record:
            prompt, sources = located, [self._bench.document(record.document_id).chunk()]
        else:
            texts = tuple(chunk.text for chunk in sources)
            prompt = Prompt(
                question=case.question,
                passages=texts if contexts else (),
                adapters=adapters,
                quote_from=texts if arm.style is Style.QUOTE else None,
                max_tokens=self._qa.config.answer.max_tokens,
            )
        return Request(prompt=prompt, hits=found, sources=sources, contexts=contexts, record=record)

    def _reading(
        self, arm: StyledArm, case: Case, found: Sequence[Hit], watch: Stopwatch
    ) -> Request | None:
        """Return what reads passages; `None` where an adapter should be heard and there is none."""
        assert arm.style is not None, "the policy's requests are the engine's"
        adapters, record = self._adapters(found), None
        if arm.arm is ArmName.BOTH:
            record = adapters.get(found[0].chunk.document_id) if found else None
            if record is None:
                return None
        thresholds = self._qa.policy.thresholds
        made = self._readings.make(
            case.question, found, adapters, arm.style, thresholds, record, watch
        )
        read = [hit.chunk for hit in made.hits]
        return Request(
            prompt=made.prompt, hits=made.hits, sources=read, contexts=read, record=record
        )

    def _adapters(self, hits: Sequence[Hit]) -> dict[str, AdapterRecord | None]:
        ids = {hit.chunk.document_id for hit in hits}
        return {id: self._bench.adapter(id) for id in ids}

    def _worn(
        self, arm: StyledArm, case: Case, hits: Sequence[Hit], watch: Stopwatch
    ) -> tuple[tuple[Adapter, ...], AdapterRecord | None] | None:
        """Return the adapters under an answer and the document's; `None` if its own is missing."""
        if arm.arm in WEARING:
            record, hits = self._record(arm.arm, case, hits)
            if record is None:
                return None
            with watch.stage("load_adapter"):
                return self._prompts.adapters(Worn.by(record, hits)), record
        if arm.arm is ArmName.BASE and arm.style is Style.QUOTE and self._task_adapter:
            return (self._task_adapter,), None
        return self._reader, None

    def _located(
        self, arm: StyledArm, case: Case, record: AdapterRecord, hits: Sequence[Hit]
    ) -> Prompt | None:
        """Return the engine's prompt that looks at places, if the adapter has any."""
        text, worn = self._bench.document(record.document_id).text, Worn.by(record, hits)
        assert arm.style is not None, "of `_LOCATED`"
        prompt = self._prompts.worn(case.question, worn, arm.style, text)
        return prompt if prompt.places else None

    def _record(
        self, arm: ArmName, case: Case, hits: Sequence[Hit]
    ) -> tuple[AdapterRecord | None, Sequence[Hit]]:
        """Return the adapter to wear, and the hits that say which part of it."""
        if arm is ArmName.WRONG_ADAPTER:
            wrong = self._bench.wrong(case)
            return self._bench.adapter(wrong), self._qa.retriever.search(case.question, 1, [wrong])
        return self._bench.adapter(hits[0].chunk.document_id, arm) if hits else None, hits

    @property
    def _reader(self) -> tuple[Adapter, ...]:
        return (self._qa.reader,) if self._qa.reader else ()

    @property
    def _task_adapter(self) -> Adapter | None:
        """What lies under every document adapter of the run."""
        if self._qa.config.internalize.internalizer == "associative":
            return self._qa.associative.task_adapter
        return self._qa.reader
