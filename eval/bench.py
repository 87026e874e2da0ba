"""What one comparison has at hand: its passages in a home of their own, and the arms' prompts."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from hybridqa.config import Config
from hybridqa.engines.answer import best_share
from hybridqa.errors import InputError
from hybridqa.eval.arms import SEARCHING, WEARING, ArmName, StyledArm
from hybridqa.eval.datasets import Case, Passage, Sample
from hybridqa.internalize.compress import take_shares
from hybridqa.protocols import Internalizer, Prompt
from hybridqa.types import Adapter, AdapterRecord, Document, Hit, Style
from hybridqa.wiring import HybridQA

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and how much there is."""


def silent(stage: str, done: int, total: int) -> None:
    """Show no progress."""


@contextmanager
def scratch(config: Config) -> Iterator[HybridQA]:
    """Lend an empty home that is gone afterwards, its index inside, whatever the config names."""
    config = replace(config, index=replace(config.index, url=None))
    with tempfile.TemporaryDirectory(prefix="hybridqa-eval-") as home, HybridQA(home, config) as qa:
        yield qa


class Bench:
    """The passages of one sample, taken in by the same code that takes in a user's documents."""

    def __init__(self, qa: HybridQA, sample: Sample, arms: Sequence[ArmName]) -> None:
        """Wire the pieces; `prepare` does the work.

        Args:
            qa: With an empty home; the passages are put into it.
            sample: What will be asked.
            arms: Only what these need is made.

        Raises:
            InputError: The arms need what the config or the sample does not have.
        """
        self._qa, self._sample, self._arms = qa, sample, frozenset(arms)
        following = [*sample.passages[1:], sample.passages[0]]
        self._next = {p.id: n.id for p, n in zip(sample.passages, following, strict=True)}
        self._adapters: dict[str, AdapterRecord] = {}
        self._hits: dict[tuple[str, str], list[Hit]] = {}
        self._within: dict[tuple[str, str], list[Hit]] = {}
        self.warnings: dict[str, str] = {}
        """Why passages have no adapter, by passage id."""
        wearing = sorted(self._arms & WEARING)
        if wearing and qa.config.internalize.internalizer == "none":
            raise InputError(
                f"The arms {', '.join(wearing)} wear adapters, but the config says "
                "`internalize: internalizer: none`. Set it to `associative`, or leave them out."
            )
        if ArmName.WRONG_ADAPTER in arms and len(sample.passages) < 2:
            raise InputError(
                "The arm `wrong-adapter` needs 2 passages at least, the run has 1. "
                "Raise `--limit`, or use a file with more passages."
            )

    def prepare(self, progress: Progress = silent) -> None:
        """Take the passages in, and find the evidence of every question."""
        if not self._arms & (SEARCHING | WEARING):
            return
        internalizer = self.internalizer
        passages, cases = self._sample.passages, self._sample.cases
        for n, passage in enumerate(passages, 1):
            taken_in = self._qa.ingestor.ingest(_document(passage), internalizer)
            if taken_in.adapter:
                self._adapters[passage.id] = taken_in.adapter
            if taken_in.warning:
                self.warnings[passage.id] = taken_in.warning
            progress("internalize" if internalizer else "index", n, len(passages))
        if not self._arms & {ArmName.RETRIEVAL, ArmName.BOTH}:
            return
        for n, case in enumerate(cases, 1):
            self._hits[_key(case)] = self._qa.retriever.search(
                case.question, self._qa.config.answer.passages
            )
            progress("retrieve", n, len(cases))

    def hits(self, case: Case) -> list[Hit]:
        """Return the evidence found for a question, best first."""
        return self._hits[_key(case)]

    def _own_hits(self, question: str, passage_id: str) -> list[Hit]:
        """Return where in a passage its evidence for a question lies, as the engine finds it."""
        key = passage_id, question
        if key not in self._within:
            count = self._qa.config.answer.passages
            self._within[key] = self._qa.retriever.search(question, count, [passage_id])
        return self._within[key]

    def length(self, arm: StyledArm, case: Case) -> int:
        """Return the characters of the prompt that `prompt` would make."""
        return len(case.question) + sum(map(len, self._passages(arm, case)))

    def prompt(self, arm: StyledArm, case: Case) -> Prompt | None:
        """Return what the generator is asked under an arm (not `auto`).

        `None` if there is no adapter to wear. Prompts hold adapters, so make them late.
        """
        adapters = self._worn(arm, case)
        if adapters is None:
            return None
        passages = self._passages(arm, case)
        evidence = passages if arm.arm in SEARCHING else (case.passage.context,)
        return Prompt(
            question=case.question,
            passages=passages,
            adapters=adapters,
            quote_from=evidence if arm.style is Style.QUOTE else None,
            max_tokens=self._qa.config.answer.max_tokens,
        )

    def _passages(self, arm: StyledArm, case: Case) -> tuple[str, ...]:
        if arm.arm is ArmName.CONTEXT:
            return (case.passage.context,)
        if arm.arm in (ArmName.RETRIEVAL, ArmName.BOTH):
            return tuple(hit.chunk.text for hit in self.hits(case))
        return ()

    def _worn(self, arm: StyledArm, case: Case) -> tuple[Adapter, ...] | None:
        """Return the adapters that lie under an answer; `None` if its own is missing."""
        if arm.arm is ArmName.ADAPTER:
            return self._stack(case.question, case.passage.id)
        if arm.arm is ArmName.WRONG_ADAPTER:
            return self._stack(case.question, self._next[case.passage.id])
        if arm.arm is ArmName.BOTH:
            hits = self.hits(case)
            worn = self._stack(case.question, hits[0].chunk.document_id) if hits else None
            # As in the engine: with passages to read, the share goes on the reader.
            return worn and ((self._qa.reader,) if self._qa.reader else ()) + worn[-1:]
        quotes = arm.style is Style.QUOTE
        below = self.task_adapter if arm.arm is ArmName.BASE and quotes else self._qa.reader
        return (below,) if below else ()

    @property
    def internalizer(self) -> Internalizer | None:
        """What makes the adapters, if any are worn."""
        return self._qa.internalizer() if self._arms & WEARING else None

    @property
    def task_adapter(self) -> Adapter | None:
        """What lies under every document adapter of the run."""
        if self._qa.config.internalize.internalizer == "associative":
            return self._qa.associative.task_adapter
        return self._qa.reader

    def _stack(self, question: str, passage_id: str) -> tuple[Adapter, ...] | None:
        """Return a passage's adapter on its task adapter, worn in part as the engine wears it."""
        record = self._adapters.get(passage_id)
        if record is None:
            return None
        adapter, count = self._qa.adapters.load(record), len(record.shares)
        if count > 1:
            hits = self._own_hits(question, passage_id)
            adapter = take_shares(adapter, [best_share(record, hits)], count)
        if record.task_adapter_id is None:
            return (adapter,)
        return self._qa.task_adapters[record.task_adapter_id], adapter


def _key(case: Case) -> tuple[str, str]:
    return case.passage.id, case.question


def _document(passage: Passage) -> Document:
    return Document(id=passage.id, text=passage.context, title=passage.title, source=passage.source)
