"""What a worn document changed: pairs of before and after, their figures and tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from statistics import fmean
from typing import Any

import numpy as np

from hybridqa.eval.grid import Grid, number, percent
from hybridqa.eval.probes.lab import told
from hybridqa.eval.statistics import Bootstrap, Interval, mean_interval


class Kind(StrEnum):
    """What a question or a passage has to do with the document worn."""

    OWN = "own"
    """It is about this document: here a change is wanted."""
    DOCUMENTS = "documents"
    """It is about another document of the data."""
    GENERAL = "general"
    """It is about no document."""


@dataclass(frozen=True, kw_only=True)
class AnswerPair:
    """One question, answered without a document and with it."""

    document: str
    """The one worn or read."""
    kind: Kind
    arm: str
    question: str
    worn: bool
    """Whether the document was worn or read; if not, after is before."""
    before: str | None
    after: str | None
    """`None` where it could not be asked."""
    divergence: float | None
    """Mean KL divergence of after from before, in nats, over the tokens of the answer before."""
    f1_before: float | None
    f1_after: float | None
    """`None` where there is no gold answer."""
    reason: str | None
    """Why it could not be asked."""

    @property
    def asked(self) -> bool:
        return self.before is not None and self.after is not None

    @property
    def unchanged(self) -> bool:
        """Whether both are asked and word for word the same."""
        return self.asked and self.before == self.after


@dataclass(frozen=True, kw_only=True)
class TextPair:
    """One passage, read without an adapter and with it."""

    document: str
    """The one worn."""
    kind: Kind
    text: str
    """Where the passage stands."""
    tokens: int
    """That are predicted: all but the first."""
    before: float
    after: float
    """Sums of the tokens' negative log-likelihoods, in nats."""


@dataclass(frozen=True, kw_only=True)
class AnswerFigures:
    """All questions of one kind under one arm; intervals are drawn over documents worn."""

    arm: str
    kind: Kind
    asked: int
    refused: int
    worn: float | None
    """Share of those asked that were asked with the document."""
    unchanged: Interval | None
    divergence: Interval | None
    f1_before: Interval | None
    f1_after: Interval | None

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class TextFigures:
    """All passages of one kind."""

    kind: Kind
    texts: int
    tokens: int
    before: float
    after: float
    """Perplexities."""
    ratio: Interval
    """After / before; the interval is drawn over texts."""

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class UnrelatedReport:
    """What was measured, and what is needed to measure it again."""

    data: str
    documents: Sequence[str]
    """Worn."""
    answers: Sequence[AnswerPair]
    texts: Sequence[TextPair]
    refused: Mapping[str, str]
    """Why documents have no adapter, by their id."""
    seed: int
    wear: str
    about: dict[str, Any]

    def answer_figures(self) -> list[AnswerFigures]:
        """Return figures by arm and kind."""
        groups: dict[tuple[str, Kind], list[AnswerPair]] = {}
        for pair in self.answers:
            groups.setdefault((pair.arm, pair.kind), []).append(pair)
        return [self._answers(arm, kind, pairs) for (arm, kind), pairs in groups.items()]

    def text_figures(self) -> list[TextFigures]:
        """Return figures by kind."""
        kinds = dict.fromkeys(pair.kind for pair in self.texts)
        return [self._texts(kind, [p for p in self.texts if p.kind is kind]) for kind in kinds]

    def as_dict(self) -> dict[str, Any]:
        """Return what `hybridqa eval unrelated --json` prints."""
        return {
            "data": self.data,
            "documents": list(self.documents),
            "refused": dict(self.refused),
            "seed": self.seed,
            "wear": self.wear,
            "answers": [figures.as_dict() for figures in self.answer_figures()],
            "perplexity": [figures.as_dict() for figures in self.text_figures()],
            "rows": [asdict(pair) for pair in self.answers],
            "texts": [asdict(pair) for pair in self.texts],
            **self.about,
        }

    def _answers(self, arm: str, kind: Kind, pairs: Sequence[AnswerPair]) -> AnswerFigures:
        asked = [pair for pair in pairs if pair.asked]

        def mean(values: Sequence[float | None]) -> Interval | None:
            known = [
                (value, pair.document)
                for value, pair in zip(values, asked, strict=True)
                if value is not None
            ]
            if not known:
                return None
            return mean_interval([v for v, _ in known], [d for _, d in known], self.seed)

        return AnswerFigures(
            arm=arm,
            kind=kind,
            asked=len(asked),
            refused=len(pairs) - len(asked),
            worn=fmean(pair.worn for pair in asked) if asked else None,
            unchanged=mean([float(pair.unchanged) for pair in asked]),
            divergence=mean([pair.divergence for pair in asked]),
            f1_before=mean([pair.f1_before for pair in asked]),
            f1_after=mean([pair.f1_after for pair in asked]),
        )

    def _texts(self, kind: Kind, pairs: Sequence[TextPair]) -> TextFigures:
        tokens = sum(pair.tokens for pair in pairs)
        drawn = Bootstrap.draw([pair.text for pair in pairs], self.seed)
        change = np.array([[pair.after - pair.before, pair.tokens] for pair in pairs], np.float64)
        ratio = drawn.interval(lambda means: np.exp(means[:, 0] / means[:, 1]), change)
        assert ratio is not None  # every text has a token
        return TextFigures(
            kind=kind,
            texts=len(pairs),
            tokens=tokens,
            before=math.exp(sum(pair.before for pair in pairs) / tokens),
            after=math.exp(sum(pair.after for pair in pairs) / tokens),
            ratio=ratio,
        )


def grids(report: UnrelatedReport) -> list[Grid]:
    """Return a table of answers, and one of perplexities."""
    title = f"Unrelated to the {len(report.documents)} documents of `{report.data}` that are worn"
    answers = Grid(
        title=f"{title}: questions",
        columns=(
            *("arm", "questions", "asked", "worn", "unchanged", "KL (nats a token)"),
            *("F1 before", "F1 after", "not asked"),
        ),
        rows=[
            (
                each.arm,
                each.kind,
                str(each.asked),
                "-" if each.worn is None else f"{each.worn:.0%}",
                percent(each.unchanged),
                number(each.divergence),
                number(each.f1_before),
                number(each.f1_after),
                str(each.refused),
            )
            for each in report.answer_figures()
        ],
        caption=_caption(report, "documents worn"),
    )
    texts = Grid(
        title=f"{title}: passages, with the adapter relative to without",
        columns=("passages", "texts", "perplexity before", "after", "ratio"),
        rows=[
            (
                each.kind,
                str(each.texts),
                f"{each.before:.2f}",
                f"{each.after:.2f}",
                number(each.ratio),
            )
            for each in report.text_figures()
        ],
        caption="In brackets, 95 % bootstrap intervals over texts.",
    )
    return [answers, texts] if texts.rows else [answers]


def _caption(report: UnrelatedReport, over: str) -> str:
    refused = "".join(
        f" No adapter for `{document}`: {reason}" for document, reason in report.refused.items()
    )
    return (
        "`own` is the control: there a change is wanted. Adapters worn: "
        f"{report.wear}, seed {report.seed}; {told(report.about)}. In brackets, 95 % bootstrap "
        f"intervals over {over}.{refused}"
    )
