"""What the model reads of what was found, and who is heard beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from hybridqa.engines.choose import Chooser
from hybridqa.engines.prompts import Prompts, Worn, each_worn
from hybridqa.engines.stopwatch import Stopwatch
from hybridqa.protocols import Prompt
from hybridqa.routing.policy import Thresholds
from hybridqa.types import AdapterRecord, Arm, Hit, Style


@dataclass(frozen=True)
class Reading:
    """What is read to answer a question."""

    hits: Sequence[Hit]
    """Best first; what the prompt quotes from, too."""
    prompt: Prompt


class Readings:
    """Makes them: passages to be quoted go by the index's order, others by the locator's."""

    def __init__(self, prompts: Prompts, chooser: Chooser, passages: int) -> None:
        """Wire the collaborators.

        Args:
            prompts: Builds the prompt.
            chooser: Chooses what is not quoted in any case.
            passages: Most that are read.
        """
        self._prompts, self._chooser, self._passages = prompts, chooser, passages

    def hits(
        self,
        question: str,
        found: Sequence[Hit],
        adapters: Mapping[str, AdapterRecord | None],
        style: Style,
    ) -> Sequence[Hit]:
        """Return what is read of what was found; the arguments are those of `make`."""
        if style is Style.QUOTE:
            return found[: self._passages]
        holding = [adapters.get(hit.chunk.document_id) for hit in found]
        return self._chooser.choose(question, found, holding)

    def make(
        self,
        question: str,
        found: Sequence[Hit],
        adapters: Mapping[str, AdapterRecord | None],
        style: Style,
        thresholds: Thresholds,
        record: AdapterRecord | None,
        watch: Stopwatch,
    ) -> Reading:
        """Return what is read to answer a question.

        Args:
            question: In plain words.
            found: Hits, best first.
            adapters: Of their documents, those that are live, by the documents' ids.
            style: Of the answer.
            thresholds: Of the policy.
            record: An adapter that is heard beside the reader: when quoting, or else where its
                document is read first. On 60 questions on stories, adapters of whatever the index
                found first took 0.046 of F1 away.
            watch: Told the time of `choose` and `load_adapter`.

        Raises:
            CorruptAdapterError: The adapter's files are damaged.
        """
        choosing = style is not Style.QUOTE
        with watch.stage("choose") if choosing else nullcontext():
            hits = self.hits(question, found, adapters, style)
        chunks = [hit.chunk for hit in hits]
        first = bool(hits) and record is not None and chunks[0].document_id == record.document_id
        worn = None
        if record and (first or not choosing):
            worn = Worn.by(record, found, thresholds.min_relevance)
        holding = [adapters.get(chunk.document_id) for chunk in chunks]
        with watch.stage("load_adapter") if worn or any(holding) else nullcontext():
            prompt = self._prompts.read(
                question,
                tuple(chunk.text for chunk in chunks),
                style,
                worn=worn,
                places=list(map(self._prompts.kept, holding, chunks)),
                judging=each_worn(holding, hits) if worn else (),
                min_relevance=thresholds.least_relevance(Arm.RETRIEVAL),
            )
        return Reading(hits, prompt)
