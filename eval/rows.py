"""What a run consists of: the values that stand line by line in its folder, see `runs`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

_VALUES = ConfigDict(extra="ignore", allow_inf_nan=False)
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, kw_only=True, config=_VALUES)
class DocumentRow:
    """A text that was searched."""

    id: str
    title: str
    source: str
    text: str
    content_hash: str
    volatility: float | None = None
    """As ingest judged it, in [0, 1]."""
    citation_need: float | None = None
    tokens: int | None = None
    """Of the base model's tokenizer."""


@dataclass(frozen=True, kw_only=True, config=_VALUES)
class SpanRow:
    """Characters `start` to `end` of a document's text."""

    document: str
    start: int
    end: int


@dataclass(frozen=True, kw_only=True, config=_VALUES)
class QuestionRow:
    """A question as asked of every arm."""

    id: str
    question: str
    answers: tuple[str, ...]
    """Gold; empty where no document says."""
    documents: tuple[str, ...]
    about: tuple[str, ...] = ()
    """See `cases.Case`, as for the next two."""
    spans: tuple[SpanRow, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    evidence: tuple[SpanRow, ...] = ()
    """What a judge holds every arm's answer against: the gold passages and the retrieved ones."""
    retrieved: tuple[SpanRow, ...] = ()
    """What the index finds for it in all documents, best first."""


@dataclass(frozen=True, kw_only=True, config=_VALUES)
class CitationRow:
    """As `types.Citation`."""

    document: str
    start: int
    end: int
    quote: str
    score: float
    verified: str


@dataclass(frozen=True, kw_only=True, config=_VALUES)
class AnswerRow:
    """What one arm made of one question."""

    question: str
    """Its id."""
    arm: str
    """Styled: `adapter`, `adapter+quote`, ..., `auto`."""
    answer: str
    """Empty when it abstained or failed."""
    error: str | None = None
    """Why it could not be asked at all; an answer all the same, a wrong one."""
    confidence: Share = 0.0
    relevance: Share | None = None
    """As in `Attempt`, like the next; told of bare arms."""
    asked: bool = True
    route: str
    """The arm that answered; differs from `arm` only under `auto`."""
    reasons: tuple[str, ...] = ()
    """Why `auto` took it."""
    citations: tuple[CitationRow, ...] = ()
    contexts: tuple[SpanRow, ...] = ()
    """Passages that stood in the prompt."""
    adapter: str | None = None
    """Id of the document adapter that was worn."""
    adapter_bytes: int = 0
    """Of the part of it that was worn."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    """By stage, `total` among them; empty where it was not timed, as in batches."""
    batch: int = 1
    """Questions generated at once."""

    @property
    def abstained(self) -> bool:
        return not self.answer and self.error is None


@dataclass(frozen=True, kw_only=True, config=_VALUES)
class ScoreRow:
    """One answer, scored."""

    question: str
    arm: str
    scores: Mapping[str, float | None]
    """By metric; `None` where a metric does not apply (no gold answer, no evidence) or where the
    judge failed, which `failures` tells apart."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """Why a judge gave no score, by metric."""


@dataclass(frozen=True, kw_only=True, config=_VALUES)
class JudgementRow:
    """What a judge said of one answer by one metric."""

    question: str
    arm: str
    metric: str
    value: float | None
    """`None` where it failed."""
    error: str | None = None
    repeat: int = 0
    """From 1 on: judged again, to see whether the judge agrees with itself."""
    seconds: float = 0.0
    judge: str = ""
    """Name and endpoint: verdicts of two judges never mix."""


@dataclass(frozen=True, kw_only=True, config=_VALUES)
class AdapterRow:
    """An adapter that the run made."""

    document: str
    id: str
    internalizer: str
    rank: int
    energy: float
    size_bytes: int
    seconds: float


@dataclass(frozen=True, kw_only=True, config=_VALUES)
class Manifest:
    """What was run, and with what."""

    format: int
    created_at: str
    """ISO 8601, with time zone."""
    complete: bool
    """Scored, and nothing left to do."""
    asked: bool = False
    """All answers are there."""
    command: str
    data: str
    data_sha256: str
    questions: int
    documents: int
    limit: int | None
    seed: int
    arms: tuple[str, ...]
    """Styled, in the order asked."""
    metrics: tuple[str, ...]
    """Names; see `metrics`."""
    evidence: str
    """What `QuestionRow.evidence` holds, in words."""
    timed: int
    """Questions asked one by one, arm after arm, whose timings count."""
    policy: Mapping[str, Any]
    """The whole policy, as in its file."""
    config: Mapping[str, Any]
    model: Mapping[str, str]
    """By name and fingerprint: the base model, its reader, the embedder, the internalizers."""
    kv_bytes_per_token: int = 0
    """Of the base model's cache."""
    judge: Mapping[str, Any] | None = None
    """`name`, `endpoint`, `plumbing` (too small to judge) and `consistency` by metric."""
    adapters: tuple[AdapterRow, ...] = ()
    warnings: Mapping[str, str] = field(default_factory=dict)
    """By document id, why it has no adapter."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """By phase: `prepare`, `answer`, `score`, `judge`; of all times that it was resumed."""
    peak_memory_bytes: int = 0
    """Of the process, without a GPU's."""
    versions: Mapping[str, str | None] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, config=_VALUES)
class Run:
    """All of a run that is shown, compared and gated."""

    path: str
    manifest: Manifest
    documents: tuple[DocumentRow, ...]
    questions: tuple[QuestionRow, ...]
    answers: tuple[AnswerRow, ...]
    scores: tuple[ScoreRow, ...]

    @property
    def asked(self) -> frozenset[tuple[str, str, tuple[str, ...]]]:
        """What makes its questions the same as another run's: id, wording and gold answers."""
        return frozenset((row.id, row.question, row.answers) for row in self.questions)

    def table(self, metric: str) -> dict[str, list[float | None]]:
        """Return a metric by arm, in the order of `questions`; `None` where there is no score."""
        known = {(row.arm, row.question): row.scores.get(metric) for row in self.scores}
        return {
            arm: [known.get((arm, question.id)) for question in self.questions]
            for arm in self.manifest.arms
        }
