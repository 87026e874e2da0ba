"""The seams: what each collaborator offers, as structural types."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from hybridqa.types import Adapter, Chunk, Document, Hit, Internalized, Place, Places

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Source(Protocol):
    """Where documents come from: files, a web site, a repository."""

    def documents(self) -> Iterator[Document]:
        """Yield every document, in a stable order.

        Raises:
            SourceError: A document cannot be read. Names the file and the remedy.
        """
        ...


class Embedder(Protocol):
    """Turns texts into dense vectors of unit length."""

    @property
    def dimension(self) -> int: ...

    @property
    def fingerprint(self) -> str:
        """Identifies the model; an index built with another fingerprint is refused."""
        ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors of shape (len(texts), dimension)."""
        ...


@dataclass(frozen=True, kw_only=True)
class SearchFilter:
    """Restricts a search by payload. `None` means no restriction."""

    document_ids: Sequence[str] | None = None
    modified_after: datetime | None = None
    """Only documents whose `modified_at` is known and at or after this time."""
    modified_before: datetime | None = None
    """Only documents whose `modified_at` is known and before this time."""


@dataclass(frozen=True, kw_only=True)
class IndexedChunk:
    """A chunk with its dense vector and the payload that filters read."""

    chunk: Chunk
    vector: NDArray[np.float32]
    """Shape (dimension,), unit length."""
    modified_at: datetime | None = None


class ChunkIndex(Protocol):
    """Chunks findable by meaning (dense) and words (BM25), fused by the engine with RRF.

    Bound to one tenant at construction. Writes are durable when the call returns.
    """

    def add(self, chunks: Iterable[IndexedChunk]) -> None:
        """Insert chunks; one of the same document revision and start replaces its equal."""
        ...

    def search(
        self,
        text: str,
        vector: NDArray[np.float32],
        limit: int,
        where: SearchFilter = SearchFilter(),
    ) -> list[Hit]:
        """Return at most `limit` hits, best first. An empty index yields an empty list."""
        ...

    def remove(self, document_id: str, keep_hash: str | None = None) -> None:
        """Remove a document's chunks, all or those of every revision but `keep_hash`."""
        ...

    def count(self, document_id: str | None = None) -> int: ...

    def revisions(self) -> set[tuple[str, str]]:
        """Return every (document_id, content_hash) that has chunks, for recovery."""
        ...

    def close(self) -> None: ...


class Internalizer(Protocol):
    """Turns a document into weights the base model can wear."""

    @property
    def name(self) -> str:
        """`associative`, `perceiver`, `refinement` or `distillation`."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of weights and settings: equal fingerprints make equal adapters."""
        ...

    def internalize(self, document: Document, chunks: Sequence[Chunk]) -> Internalized:
        """Return an adapter; no model is modified.

        Args:
            document: Its text is never truncated.
            chunks: Cover the text, each at most the internalizer's context.

        Raises:
            DocumentTooLongError: More chunks than it was made for.
            InternalizeError: No adapter could be made, e.g. no question survived.
        """
        ...


@dataclass(frozen=True)
class Look:
    """A question, and the text in which a locator looks for its answer."""

    question: str
    text: Places | str
    """What was kept of it, or itself: it is then read first."""
    most: int = 1
    """Places wanted; those beside each other differ in where they begin or end."""


class Locator(Protocol):
    """Finds answers in what it kept of a text, without reading that again."""

    @property
    def fingerprint(self) -> str:
        """Hash of weights and settings: places of another locator are not understood."""
        ...

    def keep(self, chunks: Sequence[Chunk]) -> Places:
        """Return the places of a document, given its chunks in order."""
        ...

    def locate(self, looks: Sequence[Look]) -> list[Sequence[Place]]:
        """Return where each question is likeliest answered, best first; nowhere in an empty text.

        Raises:
            ModelError: The places are another locator's.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One request to a generator."""

    question: str
    passages: Sequence[str] = ()
    """Evidence that stands before the question, best first."""
    adapters: Sequence[Adapter] = ()
    """Worn together for this request only: a task adapter, then document adapters."""
    quote_from: Sequence[str] | None = None
    """If given, the answer must be a literal span of one of these texts."""
    rounds: Sequence[Round] = ()
    """With `quote_from`: how what a locator finds there is weighed. The first round that is sure
    enough answers, or else the last, and no token is generated."""
    places: Sequence[Places | None] = ()
    """With `rounds`, what was kept of each text of `quote_from`, in that text's characters. A
    passage of which nothing was kept is read by the locator; any other text is not."""
    pool: Sequence[Expert] = ()
    """Who else has a say in every token that is generated; the prompt itself has what is left of a
    weight of 1. The next token's probabilities are multiplied, each to the power of its weight: a
    logarithmic opinion pool (Genest and Zidek 1986), or product of experts (Hinton 2002). `score`
    and `judge` know of none."""
    relevance: Relevance | None = None
    """Whether what is worn or read bears on the question. Where a locator finds that it does not,
    nothing is generated, and an expert has no say; without a locator it is asked in any case.
    `score` and `judge` know of none."""
    instead: Prompt | None = None
    """With `rounds`: what is asked where these find none. A generator that looks for no places asks
    it at once. `score` and `judge` know of none."""
    max_tokens: int = 48
    realm: str = ""
    """Whose prompt it is: nothing a generator keeps of it serves another realm."""

    @property
    def without_places(self) -> Prompt:
        """What is asked where no places are looked for, or none is the answer."""
        return self.instead or self


@dataclass(frozen=True, kw_only=True)
class Relevance:
    """How likely texts bear on a question: the logistic function of the sum of two logits.

    An adapter is loud: it changes answers that its document has nothing to do with. And a small
    model that reads a passage finds an answer there, whether there is one or not. A locator tells
    such questions apart, at a fraction of the cost of an answer.
    """

    texts: Sequence[Places | str]
    """At least one: what was kept of the part that is worn, or what is read."""
    odds: float
    """What the log odds of the likeliest place in them against "nowhere" are multiplied by."""
    logit: float
    """Of all else that is known."""
    least: float
    """Probability below which nothing is asked, in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class Expert:
    """A model that reads or wears something else."""

    prompt: Prompt
    """After which it would write the answer. Passages are read in one piece; `quote_from` and
    `pool` play no part."""
    weight: float
    """In (0, 1); those of a pool add up to less than 1."""


@dataclass(frozen=True, kw_only=True)
class Judge:
    """A model that is asked how likely it finds what a locator found."""

    prompt: Prompt
    """After which it would say so; `quote_from` plays no part. If it has passages, they are the
    quoted texts, and those are read in which there is a place to be judged."""
    weight: float
    """Of the log-likelihood of an answer's tokens, end of sequence included."""
    texts: frozenset[int] | None = None
    """Numbers of the quoted texts whose places it judges; `None` for all, and for the answer that
    the texts do not say."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """One way to weigh places, and that none of them is the answer.

    A place has the logit `odds` * log(its odds against "nowhere"), plus what its judges say; none
    of them has the logit `nothing`, plus what they say. This is a product of experts (Hinton 2002)
    with fitted weights, so the shares of all are calibrated where the weights are.
    """

    odds: float
    nothing: float
    judges: Sequence[Judge] = ()
    sure: float = 0.0
    """An answer counts if its share is no less; or else the next round decides."""
    keep: float = 0.0
    """Share, of the likeliest place's, that a place must have to be weighed in the next round."""


@dataclass(frozen=True, kw_only=True)
class Generation:
    """What a generator returns for one prompt."""

    text: str
    token_ids: Sequence[int]
    logprobs: Sequence[float]
    """Of each token (end of sequence included) under the *unconstrained* distribution; of an answer
    that a locator found, its share's in the round that decided."""
    span: tuple[int, int, int] | None
    """With `quote_from`: (index of the text, start, end) such that the quoted characters are
    `quote_from[index][start:end]`; `None` if nothing was quoted (the model abstained)."""
    located: bool = False
    """Whether a locator found it, or that there is nothing to say: no token was then generated."""
    relevance: float | None = None
    """With `Prompt.relevance`: how likely what is worn or read bears on the question."""
    abstained: bool
    prompt_tokens: int
    first_token_s: float
    """From the call to this request's first token (the whole batch's prefill included)."""
    seconds: float

    @property
    def asked(self) -> bool:
        """Whether the model, or who judges for it, was asked: not where relevance is too small."""
        return self.relevance is None or not self.located

    @property
    def confidence(self) -> float:
        """Geometric mean of the probabilities, in [0, 1]; 0 without any."""
        return math.exp(sum(self.logprobs) / len(self.logprobs)) if self.logprobs else 0.0


@dataclass(frozen=True)
class Judgement:
    """How likely a model finds answers after a prompt."""

    loglikelihoods: Sequence[float]
    """Of each answer's tokens, end of sequence included."""
    prompt_tokens: int
    """Read: the prompt's, and the answers'."""


class Generator(Protocol):
    """Prompt in, text out. Greedy; requests with different adapters share a batch."""

    @property
    def model_fingerprint(self) -> str: ...

    def generate(self, prompts: Sequence[Prompt]) -> list[Generation]:
        """Return one generation per prompt, in order.

        Raises:
            AdapterMismatchError: An adapter was made for another base model.
            QuestionError: A prompt exceeds the model's context.
        """
        ...

    def score(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:
        """Return how likely the model finds each answer, without generating.

        The geometric mean of the answer's tokens' probabilities (end of sequence included) after
        its prompt, in [0, 1]; `quote_from` plays no part.
        """
        ...

    def judge(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[str]]) -> list[Judgement]:
        """Return how likely each of a prompt's answers is.

        Args:
            prompts: `quote_from` plays no part.
            answers: Those of each prompt, which are read beside each other.

        Raises:
            AdapterMismatchError: As for `generate`, like the next.
            QuestionError: See there.
        """
        ...

    def stream(self, prompt: Prompt) -> Iterator[str]:
        """Yield the answer's text piece by piece."""
        ...

    def forget(self, realm: str) -> None:
        """Drop whatever was kept of a realm's prompts, as a document has gone."""
        ...
