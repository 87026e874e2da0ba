"""The values that everything else passes around: frozen, plain, without behaviour of their own."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class Arm(StrEnum):
    """Where an answer comes from."""

    BASE = "base"
    """The model alone (with its task adapter, if it has one)."""
    ADAPTER = "adapter"
    """The model wearing the adapter of a document; no document in the prompt."""
    RETRIEVAL = "retrieval"
    """Retrieved passages in the prompt."""
    BOTH = "both"
    """Retrieved passages in the prompt and the adapter worn."""


class Style(StrEnum):
    """How freely an answer may be worded."""

    QUOTE = "quote"
    """Every token continues a literal span of the evidence at hand."""
    FREE = "free"
    """Unconstrained decoding."""
    EITHER = "either"
    """A literal span where one is found, else unconstrained decoding; nothing where it is sure that
    there is no answer. Where quotations are not looked for by a locator, as `free`."""


def content_hash(text: str) -> str:
    """Return the SHA-256 of a document's text alone: metadata never changes it."""
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Document:
    """One source text with what is known of its life."""

    id: str
    """Stable across runs: the same source yields the same id."""
    text: str
    title: str
    source: str
    """Where it came from: a path or URL."""
    modified_at: datetime | None = None
    """Last change, timezone-aware. See `modified_by` for how far to trust it."""
    modified_by: str = "unknown"
    """Who says so: `owner` (front matter), `git`, `filesystem` or `unknown`."""
    revisions: Sequence[datetime] = ()
    """Times of all known revisions, newest first; empty where there is no history."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """The owner's own words, e.g. `stability: volatile`, `citation: required`."""

    @property
    def content_hash(self) -> str:
        return content_hash(self.text)

    def chunk(self, start: int = 0, end: int | None = None) -> Chunk:
        """Return characters `start` to `end` of it; `None` goes to its end."""
        text = self.text[start:end]
        return Chunk(
            document_id=self.id,
            content_hash=self.content_hash,
            start=start,
            end=start + len(text),
            text=text,
        )


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A span of a document: `text == document.text[start:end]`."""

    document_id: str
    content_hash: str
    """Of the whole document: which revision this span belongs to."""
    start: int
    end: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A chunk that a search returned."""

    chunk: Chunk
    score: float
    """Fused rank score (RRF); comparable within one search only."""
    similarity: float
    """Cosine similarity of query and chunk in [-1, 1]; comparable across searches."""


@dataclass(frozen=True, kw_only=True)
class Signal:
    """A judgement in [0, 1] with the evidence it rests on, in plain words."""

    value: float
    reasons: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class DocumentSignals:
    """What ingest learned about a document."""

    volatility: Signal
    """0: the truth does not change; 1: it changes all the time."""
    citation_need: Signal
    """0: nobody asks for the source; 1: it must be shown."""


@dataclass(frozen=True, kw_only=True)
class QuerySignals:
    """What a question asks for, beyond its subject."""

    volatility: Signal
    citation_need: Signal


@dataclass(frozen=True, kw_only=True)
class DocumentRecord:
    """A document as the catalog knows it: the live revision."""

    document: Document
    signals: DocumentSignals
    chunks: int
    ingested_at: datetime
    """When this revision was taken in."""
    first_ingested_at: datetime
    """When the document was first seen; earlier than `ingested_at` once it has changed."""


@dataclass(frozen=True, eq=False)
class LoraLayer:
    """Low-rank change of one linear layer: `delta = up @ down`, any scaling folded into `up`."""

    down: torch.Tensor
    """Shape (rank, d_in)."""
    up: torch.Tensor
    """Shape (d_out, rank)."""


@dataclass(frozen=True, eq=False)
class Places:
    """What a locator kept of a document: one place a token.

    A text is kept in pieces, each with a place before its first token and one behind its last,
    which have no characters.
    """

    states: torch.Tensor
    """Shape (places, width), int8."""
    scales: torch.Tensor
    """Shape (places,), float32: the largest magnitude of each state, over 127."""
    spans: torch.Tensor
    """Shape (places, 2), int32: characters (start, end) of the document's text, ascending."""
    begins: torch.Tensor
    """Shape (places,), bool: whether an answer may begin there."""
    closes: torch.Tensor
    """Shape (places,), bool: whether one may end there."""
    pieces: torch.Tensor
    """Shape (pieces,), int64, ascending: the first place of each."""
    locator: str
    """Fingerprint of what kept them: a SHA-256 in hexadecimal."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a locator finds a question answered."""

    start: int
    end: int
    """Characters of the document's text, or of a part of it."""
    share: float
    """Of this span among all spans of its piece and "nowhere", in [0, 1]."""
    nowhere: float
    """The share of "nowhere"."""

    @property
    def odds(self) -> float:
        """Of this span against "nowhere": by these, places in different texts compare."""
        return self.share / (self.nowhere + 1e-9)

    @property
    def log_odds(self) -> float:
        """Their logarithm, no less than -69."""
        return math.log(max(self.odds, 1e-30))


@dataclass(frozen=True, eq=False)
class Adapter:
    """Low-rank weights as a value: passed to a call, never loaded into a model."""

    id: str
    """Content address: SHA-256 of the factors."""
    layers: Mapping[str, LoraLayer]
    """By module path in the base model, e.g. `model.layers.16.mlp.down_proj`."""
    model_fingerprint: str
    """Of the base model whose weights the factors were made for."""
    places: Places | None = None
    """Of a document, if a locator kept such."""
    passages_apart: bool = False
    """Of a task adapter that was trained to read passages apart: see `models.windows`."""


class AdapterState(StrEnum):
    LIVE = "live"
    RETIRED = "retired"


@dataclass(frozen=True, kw_only=True)
class AdapterRecord:
    """What the store's manifest says about a document adapter."""

    id: str
    document_id: str
    content_hash: str
    """Of the document revision that was internalized."""
    model_fingerprint: str
    internalizer: str
    """`associative`, `perceiver`, `refinement` or `distillation`."""
    internalizer_fingerprint: str
    """Hash of the internalizer's weights and settings."""
    task_adapter_id: str | None
    """Task adapter that this adapter was made on top of and must be stacked on."""
    rank: int
    energy: float
    """Share of the uncompressed update's squared norm that the rank keeps, in [0, 1]: the mean
    over layers (and shares)."""
    shares: Sequence[tuple[int, int]]
    """Spans of the document, (start, end), that hold equal shares of the rank, in this order.

    An adapter may be worn in part: the shares of the spans that bear on a question. One span
    over the whole text means that it cannot be divided.
    """
    good_shares: int
    """Shares that may be worn at once: so many were measured to be as good together as alone. An
    adapter of more is worn in part."""
    size_bytes: int
    seconds: float
    """Time that internalizing took."""
    created_at: datetime
    state: AdapterState


@dataclass(frozen=True, kw_only=True)
class Internalized:
    """What an internalizer returns: the adapter and how it came to be."""

    adapter: Adapter
    task_adapter: Adapter | None
    """Stack the adapter on this one."""
    rank: int
    energy: float
    shares: Sequence[tuple[int, int]]
    """As in `AdapterRecord`."""
    seconds: float
    good_shares: int = 1
    """As in `AdapterRecord`."""


@dataclass(frozen=True, kw_only=True)
class Citation:
    """A span of a document that carries (part of) an answer."""

    document_id: str
    start: int
    end: int
    quote: str
    """Exactly `document.text[start:end]`."""
    score: float
    """How well the span supports the answer, in [0, 1]; 1 is verbatim."""
    verified: str
    """How it was checked: `verbatim` (the answer is this span) or `overlap`."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What the router chose, and why."""

    arm: Arm
    reasons: Sequence[str]
    document_ids: Sequence[str]
    """Documents that the best hits (or the caller) name, best first."""
    adapter: AdapterRecord | None
    query: QuerySignals


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One arm's try at an answer, whether it was given or dropped."""

    arm: Arm
    text: str
    """As the model worded it, before any check; empty when it abstained."""
    abstained: bool
    cited: bool
    """Whether it stands in a text that was found."""
    confidence: float
    """As in `Answer`."""
    support: float | None = None
    """How likely a reader of the passage cited finds it, in [0, 1]; `None` where nobody asked."""
    relevance: float | None = None
    """How likely what was worn or read bears on the question, in [0, 1]; `None` where nobody
    looked."""
    asked: bool = True
    """Whether the model was asked: not where `relevance` is too small."""
    error: str | None = None
    """Why there was no try at all: the adapter is damaged."""
    accepted: bool = False
    """Whether it was given as the answer."""
    reasons: Sequence[str] = ()
    """What the checks have to say of it."""
    milliseconds: float


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the user gets."""

    question: str
    text: str
    """Empty when abstained."""
    arm: Arm
    style: Style
    reasons: Sequence[str]
    citations: Sequence[Citation]
    adapter: AdapterRecord | None
    """The adapter that was worn, if any."""
    confidence: float
    """Geometric mean of the model's own token probabilities, in [0, 1]."""
    timings_ms: Mapping[str, float]
    """By stage: `retrieve`, `route`, `first_token`, `generate`, `verify`, `total`."""
    attempts: Sequence[Attempt]
    """Every arm that was tried, in order; if one was accepted, it is the last."""
    prompt_tokens: int
    """Read by the model in all its calls for this answer, dropped attempts and checks included."""
    completion_tokens: int
    """Written by it in all these calls, ends of sequence included."""

    @property
    def abstained(self) -> bool:
        return not self.text
