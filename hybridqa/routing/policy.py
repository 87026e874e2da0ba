"""What a policy file in `configs/policy` may say: thresholds, rules in plain words, checks."""

from __future__ import annotations

from dataclasses import field
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from hybridqa.config import STRICT
from hybridqa.types import Arm, Style

Share = Annotated[float, Field(ge=0, le=1)]


class Condition(StrEnum):
    """All phrases that a rule may test. Each has its opposite; there is no other `not`."""

    ALWAYS = "always"
    ASKS_FOR_SOURCE = "the question asks for a source"
    ASKS_FOR_NO_SOURCE = "the question asks for no source"
    ABOUT_PRESENT = "the question is about the present"
    NOT_ABOUT_PRESENT = "the question is not about the present"
    VOLATILE = "the document is volatile"
    STABLE = "the document is stable"
    CHANGED = "the document changed recently"
    UNCHANGED = "the document has not changed recently"
    MUST_BE_CITED = "the document must be cited"
    NEED_NOT_BE_CITED = "the document need not be cited"
    NO_EVIDENCE = "there is no evidence"
    EVIDENCE = "there is evidence"
    NO_ADAPTER = "there is no live adapter"
    ADAPTER = "there is a live adapter"
    HITS_DISAGREE = "the best hits disagree on the document"
    HITS_AGREE = "the best hits agree on the document"


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Rule:
    """If all conditions hold, the question takes this arm."""

    when: Annotated[tuple[Condition, ...], BeforeValidator(_as_list), Field(min_length=1)] = Field(
        alias="if"
    )
    """One phrase or several; several must all hold."""

    then: Arm
    because: Annotated[str, Field(min_length=1)]
    """Told to the user as the reason."""

    def __post_init__(self) -> None:
        if Condition.ALWAYS in self.when and len(self.when) > 1:
            raise ValueError("`always` stands alone: remove it or the other conditions")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Thresholds:
    """Where degrees become yes or no. `above` excludes the value itself, `min` includes it."""

    volatile_above: Share = 0.5
    """Volatility above which a document is volatile, or a question about the present."""

    citation_above: Share = 0.5
    """Citation need above which a document must be cited, or a question asks for a source."""

    recent_days: Annotated[float, Field(ge=0, le=1_000_000)] = 14
    """A document that changed at most so many days ago changed recently."""

    min_similarity: Annotated[float, Field(ge=-1, le=1)] = 0.25
    """Cosine of question and best hit below which there is no evidence."""

    rival_within: Annotated[float, Field(ge=0, le=2)] = 0.02
    """The best hits disagree if another document's comes so close in cosine."""

    min_relevance: Share = 0.2
    """Likelihood, to the locator, that the adapter's document bears on the question, below which
    the adapter is not worn; in free wording alone, as a quotation is looked for anyway."""

    min_confidence: Share = 0.0
    """Confidence below which an adapter's answer is not trusted."""

    min_support: Share = 0.4
    """Likelihood, to the locator that found an adapter's answer, or else to a reader of the passage
    it was found in, below which the evidence does not support the answer."""

    silent_from: Share = 0.6
    """Likelihood, to the locator, that nothing answers in what is read, above which the model is
    not asked to word an answer, and nothing is said; at 1 it always is. Quotations are weighed
    against having none anyway. `hybridqa eval unanswerable` tells what comes of it."""

    min_retrieval_confidence: Share = 0.2
    """Confidence below which an answer from retrieved passages is withheld."""

    def least_relevance(self, arm: Arm) -> float:
        """Return how likely what an arm wears or reads must bear on the question."""
        return self.min_relevance if arm is Arm.ADAPTER else 1.0 - self.silent_from


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Checks:
    """What makes an adapter's answer be dropped for retrieval."""

    confidence: bool = True
    """Its confidence is below `min_confidence`."""

    support: bool = True
    """The retrieved evidence does not support it by `min_support`."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Policy:
    """How questions are routed. The first rule whose conditions all hold decides."""

    name: str
    description: str
    style: Style = Style.QUOTE
    """`quote` allows only literal spans of the evidence, `free` any wording; `either` gives a
    literal span where one is found, and else the model's own words."""

    thresholds: Thresholds = field(default_factory=Thresholds)
    rules: Annotated[tuple[Rule, ...], Field(min_length=1)]
    checks: Checks = field(default_factory=Checks)

    def __post_init__(self) -> None:
        *others, last = self.rules
        if last.when != (Condition.ALWAYS,):
            raise ValueError(
                "the last rule must be `if: always`, so that every question has an arm"
            )
        for number, rule in enumerate(others, 1):
            if rule.when == (Condition.ALWAYS,):
                raise ValueError(f"rule {number} is `always`: move the rules after it before it")
