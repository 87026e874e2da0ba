"""What a run has at hand: its documents, in a home of their own, and what is found in them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from hybridqa.config import Config
from hybridqa.errors import InputError
from hybridqa.eval.arms import TRAINED, WEARING, ArmName
from hybridqa.eval.cases import Case, Dataset
from hybridqa.eval.rows import SpanRow
from hybridqa.protocols import Internalizer
from hybridqa.types import AdapterRecord, Chunk, Document, Hit
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
                self.wrong(case)

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
                wanted.add(self.wrong(case))
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
            self._retrieved[case.id] = self._qa.retriever.search(
                case.question, self._qa.config.answer.hits
            )
            self.own_hits(case)
            progress("retrieve", n, len(cases))

    @property
    def _passages(self) -> int:
        return self._qa.config.answer.passages

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

    def own_hits(self, case: Case) -> list[Hit]:
        """Return the best hits in the documents a question is about."""
        if case.id not in self._own_hits:
            found = self._qa.retriever.search(case.question, self._passages, self.own(case))
            self._own_hits[case.id] = found
        return self._own_hits[case.id]

    def own(self, case: Case) -> tuple[str, ...]:
        """Return the documents a question is about: its gold ones, or else the best hit's."""
        if case.documents or case.about:
            return case.documents or case.about
        return tuple(hit.chunk.document_id for hit in self._retrieved.get(case.id, ())[:1])

    def document(self, document_id: str) -> Document:
        """Return a document of the run."""
        return self._documents[document_id]

    def adapter(self, document_id: str, arm: ArmName = ArmName.ADAPTER) -> AdapterRecord | None:
        """Return a document's adapter as an arm wears it, if one was made."""
        return self._trained.get(arm, self._adapters).get(document_id)

    def wrong(self, case: Case) -> str:
        """Return the first document after a question's own that is not its own.

        Raises:
            InputError: There is no other.
        """
        ids, right = list(self._documents), self.own(case)
        start = ids.index(right[0]) if right else 0
        for document_id in [*ids[start + 1 :], *ids[:start]]:
            if document_id not in right:
                return document_id
        raise InputError(
            "The arm `wrong-adapter` needs a document that does not answer the question; the data "
            f"has {len(ids)} in all. Use more documents, or leave the arm out."
        )


def trained_by(qa: HybridQA, arm: ArmName) -> Internalizer:
    """Return what trains the adapters of an arm: without places, so that only weights answer."""
    trainer = qa.models.internalizer(TRAINED[arm], places=False)
    assert trainer is not None, "`none` trains nothing"
    return trainer


def span_of(chunk: Chunk) -> SpanRow:
    """Return where a text stands."""
    return SpanRow(document=chunk.document_id, start=chunk.start, end=chunk.end)
