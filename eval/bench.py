"""What a run has at hand: its documents in a home of their own, and the arms' prompts."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from hybridqa.config import Config
from hybridqa.engines.choose import Chooser, speaks
from hybridqa.engines.prompts import Prompts, Worn, each_worn
from hybridqa.engines.stopwatch import Stopwatch
from hybridqa.errors import InputError
from hybridqa.eval.arms import SEARCHING, TRAINED, WEARING, ArmName, StyledArm
from hybridqa.eval.cases import Case, Dataset
from hybridqa.eval.rows import SpanRow
from hybridqa.protocols import Internalizer, Prompt
from hybridqa.types import Adapter, AdapterRecord, Document, Hit, Style
from hybridqa.wiring import HybridQA

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and how much there is."""


def silent(stage: str, done: int, total: int) -> None:
    """Show no progress."""


@contextmanager
def scratch(
    config: Config, open_home: Callable[[Path, Config], HybridQA] = HybridQA
) -> Iterator[HybridQA]:
    """Lend an empty home that is gone afterwards, its index inside, whatever the config names.

    Args:
        config: Of the home.
        open_home: Opens it; tests put fakes into it.
    """
    config = replace(config, index=replace(config.index, url=None))
    with (
        tempfile.TemporaryDirectory(prefix="hybridqa-eval-") as home,
        open_home(Path(home), config) as qa,
    ):
        yield qa


_LOCATED = (StyledArm(ArmName.ADAPTER, Style.QUOTE), StyledArm(ArmName.ADAPTER, Style.EITHER))
"""Of the others, `distilled` and `refined` are to show what their weights know, and another
document's adapter has no places in this one's text."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """What the generator is asked for one question under one arm, and what that rests on."""

    prompt: Prompt
    hits: Sequence[Hit]
    """What was found: in all documents, or in the question's own."""
    sources: Sequence[Document | Hit]
    """Where each text of `prompt.quote_from` stands; filled whether it is quoted or not."""
    contexts: Sequence[Document | Hit]
    """Where each passage of the prompt stands."""
    record: AdapterRecord | None
    """Of the document adapter that is worn."""


class Bench:
    """The documents of one run, taken in by the same code that takes in a user's."""

    def __init__(self, qa: HybridQA, dataset: Dataset, arms: Sequence[ArmName]) -> None:
        """Wire the pieces; `prepare` does the work.

        Args:
            qa: Its home holds nothing but (some of) these documents.
            dataset: What will be asked.
            arms: Only what these need is made.

        Raises:
            InputError: The arms need what the config or the dataset does not have.
        """
        self._qa, self._dataset, self._arms = qa, dataset, frozenset(arms)
        self._documents = {document.id: document for document in dataset.documents}
        self._adapters: dict[str, AdapterRecord] = {}
        self._trained: dict[ArmName, dict[str, AdapterRecord]] = {
            arm: {} for arm in TRAINED if arm in arms
        }
        self._retrieved: dict[str, Sequence[Hit]] = {}
        self._own_hits: dict[str, list[Hit]] = {}
        self.warnings: dict[str, str] = {}
        """Why documents have no adapter, by their id."""
        wearing = sorted(self._arms & WEARING - TRAINED.keys())
        if wearing and qa.config.internalize.internalizer == "none":
            raise InputError(
                f"The arms {', '.join(wearing)} wear adapters, but the config says "
                "`internalize: internalizer: none`. Set it to `associative`, or leave them out."
            )
        if ArmName.WRONG_ADAPTER in arms:
            for case in dataset.cases:
                self._wrong(case.documents or case.about)

    # Taking in

    def prepare(self, progress: Progress = silent) -> None:
        """Take the documents in, and find the evidence of every question.

        What the home holds already is not done again.
        """
        documents = self._dataset.documents
        for n, document in enumerate(documents, 1):
            self._ingest(document.id, None)
            progress("index", n, len(documents))
        self._retrieve(progress)
        gold = {id for case in self._dataset.cases for id in self.own(case)}
        for arm, made in self._trained.items():
            trainer = trained_by(self._qa, arm)
            self._internalize(trainer.name, gold, trainer, made, progress)
        internalizer = self.internalizer
        if internalizer:  # after the trained ones: the adapter made last answers under `auto`
            self._internalize(
                "internalize", self._wearers(gold), internalizer, self._adapters, progress
            )
        for made in self._trained.values():
            for document_id in made.keys() - self._adapters.keys():
                # Else `auto` would wear it, and do better only where its own arm is run too.
                self._qa.adapters.retire(made[document_id])

    def _wearers(self, gold: set[str]) -> set[str]:
        """Return the documents whose adapters any arm may wear; others of a large set need none."""
        wanted = set(gold)
        for case in self._dataset.cases:
            wanted.update(hit.chunk.document_id for hit in self.retrieved(case)[: self._passages])
            if ArmName.WRONG_ADAPTER in self._arms:
                wanted.add(self._wrong(self.own(case)))
        return wanted

    def _internalize(
        self,
        stage: str,
        wanted: set[str],
        internalizer: Internalizer,
        made: dict[str, AdapterRecord],
        progress: Progress,
    ) -> None:
        for n, document_id in enumerate(sorted(wanted), 1):
            record = self._ingest(document_id, internalizer)
            if record:
                made[document_id] = record
            progress(stage, n, len(wanted))

    def _ingest(self, document_id: str, internalizer: Internalizer | None) -> AdapterRecord | None:
        taken_in = self._qa.ingestor.ingest(self._documents[document_id], internalizer)
        if taken_in.warning and internalizer:
            former = self.warnings.get(document_id)
            told = f"{internalizer.name}: {taken_in.warning}"
            self.warnings[document_id] = f"{former} {told}" if former else told
        return taken_in.adapter

    def _retrieve(self, progress: Progress) -> None:
        cases = self._dataset.cases
        for n, case in enumerate(cases, 1):
            self._retrieved[case.id] = self._search(case.question, self._qa.config.answer.hits)
            self.own_hits(case)
            progress("retrieve", n, len(cases))

    def _search(
        self, question: str, count: int, document_ids: Sequence[str] | None = None
    ) -> list[Hit]:
        return self._qa.retriever.search(question, count, document_ids)

    @property
    def internalizer(self) -> Internalizer | None:
        """What makes the adapters, if any are worn."""
        return self._qa.internalizer() if self._arms & WEARING - TRAINED.keys() else None

    @property
    def adapters(self) -> tuple[AdapterRecord, ...]:
        """All that were made."""
        trained = [record for made in self._trained.values() for record in made.values()]
        return (*self._adapters.values(), *trained)

    # What is known of a question

    def retrieved(self, case: Case) -> Sequence[Hit]:
        """Return what the index finds for a question in all documents, best first."""
        return self._retrieved[case.id]

    def read(self, case: Case, style: Style) -> Sequence[Hit]:
        """Return which of these the model reads to answer in a style."""
        hits = self.retrieved(case)
        return hits[: self._passages] if style is Style.QUOTE else self._chosen(case, hits)

    def own_hits(self, case: Case) -> list[Hit]:
        """Return the best hits in the documents a question is about."""
        if case.id not in self._own_hits:
            found = self._search(case.question, self._passages, self.own(case))
            self._own_hits[case.id] = found
        return self._own_hits[case.id]

    def own(self, case: Case) -> tuple[str, ...]:
        """Return the documents a question is about: its gold ones, or else the best hit's."""
        if case.documents or case.about:
            return case.documents or case.about
        return tuple(hit.chunk.document_id for hit in self._retrieved.get(case.id, ())[:1])

    def _wrong(self, right: Sequence[str]) -> str:
        """Return the first document after a question's own that is not its own."""
        ids = list(self._documents)
        start = ids.index(right[0]) if right else 0
        for document_id in [*ids[start + 1 :], *ids[:start]]:
            if document_id not in right:
                return document_id
        raise InputError(
            "The arm `wrong-adapter` needs a document that does not answer the question; the data "
            f"has {len(ids)} in all. Use more documents, or leave the arm out."
        )

    # Asking

    def length(self, arm: StyledArm, case: Case) -> int:
        """Return about how many characters the prompt of `request` has."""
        if arm.arm is ArmName.CONTEXT:
            read = [self._documents[id].text for id in self.own(case)]
        elif arm.arm in SEARCHING:
            read = [hit.chunk.text for hit in self.retrieved(case)[: self._passages]]
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
        searching, own = arm.arm in SEARCHING, self.own(case)
        choosing = searching and arm.style is not Style.QUOTE
        if searching or arm.arm in WEARING:
            most = self._qa.config.answer.hits if choosing else self._passages
            with watch.stage("retrieve"):
                found = self._search(case.question, most, None if searching else own)
        else:  # nothing need be found to answer, but the answer is cited
            found = self.own_hits(case)
        worn = self._worn(arm, case, found, watch)
        if worn is None:
            return None
        adapters, record = worn
        hits: Sequence[Hit] = found
        if choosing:
            with watch.stage("choose"):
                hits = self._chosen(case, found)
        sources: Sequence[Document | Hit] = hits
        if arm.arm is ArmName.CONTEXT or arm.arm in TRAINED:
            sources = [self._documents[id] for id in own]
        elif not searching:  # the part of its document that the adapter's share was made from
            sources = self.own_hits(case)[:1]
        contexts = sources if searching or arm.arm is ArmName.CONTEXT else []
        located = self._located(arm, case, record, found) if arm in _LOCATED and record else None
        if located and record:
            prompt, sources = located, [self._documents[record.document_id]]
        elif searching:
            relevant = self._qa.policy.thresholds.min_relevance
            heard = record and (not choosing or speaks(record, hits))
            say = Worn.by(record, found, relevant) if record and heard else None
            prompt = self._read(arm, case, hits, say)
        else:
            prompt = Prompt(
                question=case.question,
                passages=tuple(map(_text, contexts)),
                adapters=adapters,
                quote_from=tuple(map(_text, sources)) if arm.style is Style.QUOTE else None,
                max_tokens=self._qa.config.answer.max_tokens,
            )
        return Request(prompt=prompt, hits=hits, sources=sources, contexts=contexts, record=record)

    @cached_property
    def _prompts(self) -> Prompts:
        qa = self._qa
        return Prompts(qa.adapters, qa.task_adapters, qa.reader, qa.config.answer.max_tokens)

    @cached_property
    def _chooser(self) -> Chooser:
        return Chooser(self._qa.locator, self._prompts.kept, self._passages)

    @property
    def _passages(self) -> int:
        return self._qa.config.answer.passages

    def _chosen(self, case: Case, hits: Sequence[Hit]) -> list[Hit]:
        return self._chooser.choose(case.question, hits, self._holding(hits))

    def _holding(self, hits: Sequence[Hit]) -> list[AdapterRecord | None]:
        return [self._adapters.get(hit.chunk.document_id) for hit in hits]

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
        if arm.arm is ArmName.BASE and arm.style is Style.QUOTE and self.task_adapter:
            return (self.task_adapter,), None
        return self._reading, None

    def _certainty(self, arm: StyledArm) -> float | None:
        return self._qa.policy.thresholds.min_certainty if arm.style is Style.EITHER else None

    def _located(
        self, arm: StyledArm, case: Case, record: AdapterRecord, hits: Sequence[Hit]
    ) -> Prompt | None:
        """Return the engine's prompt that looks at places, if the adapter has any."""
        text, worn = self._documents[record.document_id].text, Worn.by(record, hits)
        prompt = self._prompts.worn(case.question, worn, text, self._certainty(arm))
        return prompt if prompt.places else None

    def _read(self, arm: StyledArm, case: Case, hits: Sequence[Hit], worn: Worn | None) -> Prompt:
        """Return the engine's prompt that reads some hits."""
        made, quoting = self._holding(hits), arm.style is not Style.FREE
        return self._prompts.read(
            case.question,
            tuple(map(_text, hits)),
            quoting=quoting,
            worn=worn,
            places=[
                self._prompts.kept(own, hit.chunk) if quoting else None
                for own, hit in zip(made, hits, strict=True)
            ],
            judging=each_worn(made, hits) if worn else (),
            certainty=self._certainty(arm),
        )

    def _record(
        self, arm: ArmName, case: Case, hits: Sequence[Hit]
    ) -> tuple[AdapterRecord | None, Sequence[Hit]]:
        """Return the adapter to wear, and the hits that say which part of it."""
        if arm is ArmName.WRONG_ADAPTER:
            wrong = self._wrong(self.own(case))
            return self._adapters.get(wrong), self._search(case.question, 1, [wrong])
        made = self._trained.get(arm, self._adapters)
        return made.get(hits[0].chunk.document_id) if hits else None, hits

    @property
    def _reading(self) -> tuple[Adapter, ...]:
        return (self._qa.reader,) if self._qa.reader else ()

    @property
    def task_adapter(self) -> Adapter | None:
        """What lies under every document adapter of the run."""
        if self._qa.config.internalize.internalizer == "associative":
            return self._qa.associative.task_adapter
        return self._qa.reader


def trained_by(qa: HybridQA, arm: ArmName) -> Internalizer:
    """Return what trains the adapters of an arm: without places, so that only weights answer."""
    trainer = qa.models.internalizer(TRAINED[arm], places=False)
    assert trainer is not None, "`none` trains nothing"
    return trainer


def span_of(source: Document | Hit) -> SpanRow:
    """Return where a text stands."""
    if isinstance(source, Document):
        return SpanRow(document=source.id, start=0, end=len(source.text))
    chunk = source.chunk
    return SpanRow(document=chunk.document_id, start=chunk.start, end=chunk.end)


def _text(source: Document | Hit) -> str:
    return source.text if isinstance(source, Document) else source.chunk.text
