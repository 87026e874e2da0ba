"""What the measurements share: an empty home, a document of 1,000 tokens, adapters, questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

from hybridqa.eval.datasets import load
from hybridqa.eval.filler import SAMPLE
from hybridqa.protocols import Internalizer
from hybridqa.types import Adapter, Chunk, Document, Internalized
from hybridqa.wiring import HybridQA

Progress = Callable[[str, int, int], None]


class Workbench:
    """Made once for a run; everything is built when first used."""

    def __init__(self, qa: HybridQA, quick: bool, seed: int, progress: Progress) -> None:
        self.qa, self.quick, self.seed, self.progress = qa, quick, seed, progress

    def repeats(self, full: int) -> int:
        """Return how many rounds to time."""
        return 2 if self.quick else full

    @cached_property
    def document(self) -> Document:
        """The beginning of the sample documents, exactly so many tokens of the model."""
        tokens = 300 if self.quick else 1000
        text = "\n\n".join(self._texts)
        encoded = self.qa.base.tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True
        )
        end = encoded["offset_mapping"][tokens - 1][1]
        return Document(id="speed", text=text[:end], title="Speed", source="speed")

    @cached_property
    def chunks(self) -> list[Chunk]:
        return self.qa.chunker.chunk(self.document)

    @cached_property
    def internalizer(self) -> Internalizer:
        """The associative one, whatever the config says."""
        return self.qa.associative

    @cached_property
    def internalized(self) -> Internalized:
        return self.internalizer.internalize(self.document, self.chunks)

    @cached_property
    def worn(self) -> tuple[Adapter, ...]:
        """What is worn to answer from the document: all of its adapter, no share left out."""
        return stack_of(self.internalized)

    def stacks(self, count: int) -> list[tuple[Adapter, ...]]:
        """Return what is worn for `count` different texts, each a chunk of the sample."""
        stacks = []
        for n, chunk in enumerate(self._sample_chunks()[:count]):
            self.progress("internalizing", n, count)
            document = Document(id=f"chunk-{n}", text=chunk.text, title="", source="speed")
            whole = self.qa.chunker.chunk(document)
            stacks.append(stack_of(self.internalizer.internalize(document, whole)))
        return stacks

    @cached_property
    def questions(self) -> list[str]:
        """Questions that the sample documents answer."""
        return [case.question for case in load(str(SAMPLE)).cases if case.answerable]

    def passages(self, count: int) -> tuple[str, ...]:
        """Return chunks of the sample that are nearly as long as the config allows."""
        by_length = sorted(self._sample_chunks(), key=lambda c: self.qa.chunker.count(c.text))
        return tuple(chunk.text for chunk in by_length[-count:])

    def sample_documents(self) -> list[Document]:
        """Return the sample's text files, few of them in a quick run."""
        paths = _paths()[: 3 if self.quick else None]
        return [
            Document(id=path.name, text=text, title=path.stem, source=str(path))
            for path, text in zip(paths, self._texts, strict=False)
        ]

    @cached_property
    def _texts(self) -> list[str]:
        return [path.read_text(encoding="utf-8") for path in _paths()]

    def _sample_chunks(self) -> Sequence[Chunk]:
        documents = [Document(id="sample", text=t, title="", source="speed") for t in self._texts]
        return [chunk for document in documents for chunk in self.qa.chunker.chunk(document)]


def stack_of(made: Internalized) -> tuple[Adapter, ...]:
    """Return what is worn to answer from a document: task adapter, then its own."""
    return (made.task_adapter, made.adapter) if made.task_adapter else (made.adapter,)


def _paths() -> list[Path]:
    return sorted((SAMPLE / "documents").glob("*.md"))
