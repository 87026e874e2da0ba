"""What several routes return, for OpenAPI. The values are those of `hybridqa.serialize`."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from hybridqa.types import Arm, Style

MAX_ID_CHARS = 512


def _speakable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise ValueError(f"holds a lone surrogate at {exc.start}, which no encoding has") from exc
    return text


def _single_line(text: str) -> str:
    if any(ord(char) < 32 or ord(char) == 127 for char in text):
        raise ValueError("holds control characters; use one line of plain text")
    return text


Text = Annotated[str, AfterValidator(_speakable)]
"""That can be stored."""
Name = Annotated[Text, Field(min_length=1, max_length=MAX_ID_CHARS), AfterValidator(_single_line)]
"""An id or title."""


class Strict(BaseModel):
    """A request's body: an unknown field is an error."""

    model_config = ConfigDict(extra="forbid")


class SignalBody(BaseModel):
    value: float
    reasons: list[str]


class QuerySignalsBody(BaseModel):
    volatility: SignalBody
    citation_need: SignalBody


class BriefAdapterBody(BaseModel):
    id: str
    document_id: str
    energy: float
    rank: int
    internalizer: str


class CitationBody(BaseModel):
    document_id: str
    start: int
    """In Unicode code points of the document's text, as is `end`."""
    end: int
    quote: str
    score: float
    verified: str


class AnswerBody(BaseModel):
    id: str
    """Of the request."""
    question: str
    answer: str
    """Empty when abstained."""
    abstained: bool
    arm: Arm
    style: Style
    reasons: list[str]
    citations: list[CitationBody]
    adapter: BriefAdapterBody | None
    confidence: float
    prompt_tokens: int
    completion_tokens: int
    timings_ms: dict[str, float]


class DecisionBody(BaseModel):
    question: str
    arm: Arm
    reasons: list[str]
    documents: list[str]
    adapter: BriefAdapterBody | None
    query: QuerySignalsBody


class QuestionBody(Strict):
    """A question, and how it is to be answered."""

    question: str
    arm: Arm | None = None
    """`null` lets the policy decide."""
    documents: Annotated[list[Text], Field(max_length=100)] = Field(default=[])
    """Answer from these only; empty searches all."""
