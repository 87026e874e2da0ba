"""What taking in documents of several lengths costs: figures and tables."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from hybridqa.eval.grid import Grid
from hybridqa.eval.probes.lab import told
from hybridqa.eval.speed.footprint import Footprint
from hybridqa.eval.speed.passes import FORWARD_TOKENS, Pass


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Ratios of several rounds."""

    median: float
    low: float
    high: float
    """Least and greatest."""

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(median=statistics.median(values), low=min(values), high=max(values))

    def __str__(self) -> str:
        return f"{self.median:.3g}× ({self.low:.3g} to {self.high:.3g})"


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What is left of a document."""

    adapter_bytes: int
    rank: int
    shares: int
    energy: float
    """Share of the update's squared norm that the rank keeps."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """One length."""

    tokens: int
    chunks: int
    kv_bytes: int
    """Of the text's keys and values in the base model's cache."""
    kept: Kept | None
    """`None` where no adapter could be made."""
    ms: Mapping[str, float]
    """Medians by `Pass`; without `prefill` beyond the model's window."""
    time_ratio: Spread | None
    """Of internalizing to one pass of the base model over the same chunks."""
    time_ratio_to_prefill: Spread | None
    """Of internalizing to reading the text whole; `None` beyond the window."""
    memory: Mapping[str, Footprint]
    """By `Pass`, each in a process of its own."""
    memory_reasons: Mapping[str, str]
    """Why a pass's memory could not be measured."""
    reason: str | None
    """Why there is no adapter."""

    @property
    def kv_ratio(self) -> float | None:
        """The bytes of keys and values relative to the adapter's."""
        return self.kv_bytes / self.kept.adapter_bytes if self.kept else None

    @property
    def peak_ratio(self) -> float | None:
        """Peak memory of internalizing relative to the base model's pass, models included."""
        ours, theirs = self._footprints
        return ours.peak_bytes / theirs.peak_bytes if ours and theirs else None

    @property
    def working_ratio(self) -> float | None:
        """The same beyond what the models take at rest."""
        ours, theirs = self._footprints
        return ours.working_bytes / theirs.working_bytes if ours and theirs else None

    @property
    def _footprints(self) -> tuple[Footprint | None, Footprint | None]:
        return self.memory.get(Pass.INTERNALIZE), self.memory.get(Pass.FORWARD)

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            **asdict(self),
            "kv_ratio": self.kv_ratio,
            "peak_ratio": self.peak_ratio,
            "working_ratio": self.working_ratio,
        }


@dataclass(frozen=True, kw_only=True)
class Distilled:
    """One document, distilled once."""

    tokens: int
    chunks: int
    steps: int
    questions: int
    seconds: float | None = None
    internalize_seconds: float | None = None
    """Median."""
    ratio: Spread | None = None
    """Of distilling to internalizing."""
    reason: str | None = None
    """Why it could not be measured."""

    def done(self, seconds: float, instant: Sequence[float]) -> Distilled:
        """Return it with its times."""
        return replace(
            self,
            seconds=seconds,
            internalize_seconds=statistics.median(instant),
            ratio=Spread.of([seconds / each for each in instant]),
        )

    def failed(self, reason: str) -> Distilled:
        """Return it with what went wrong."""
        return replace(self, reason=reason)

    def __str__(self) -> str:
        what = f"Context distillation of {self.tokens:,} tokens ({self.steps} steps)"
        if self.ratio is None:
            return f"{what} could not be measured: {self.reason}"
        return f"{what} takes {self.seconds:.1f} s, {self.ratio} as long as internalizing them."


@dataclass(frozen=True, kw_only=True)
class SizesReport:
    """What was measured, and what is needed to measure it again."""

    sizes: Sequence[Size]
    distilled: Distilled | None
    """`None` where it was left out."""
    repeats: int
    seed: int
    kv_bytes_per_token: int
    about: dict[str, Any]
    seconds: float
    forward_tokens: int = field(default=FORWARD_TOKENS)
    """Of chunks that the base model reads at once."""

    def as_dict(self) -> dict[str, Any]:
        """Return what `hybridqa bench internalize --json` prints."""
        return {
            "sizes": [size.as_dict() for size in self.sizes],
            "distilled": asdict(self.distilled) if self.distilled else None,
            "repeats": self.repeats,
            "seed": self.seed,
            "kv_bytes_per_token": self.kv_bytes_per_token,
            "forward_tokens": self.forward_tokens,
            "seconds": self.seconds,
            **self.about,
        }


def grids(report: SizesReport) -> list[Grid]:
    """Return a table of times, and one of memory and bytes."""
    return [
        Grid(
            title="Internalizing a document, by its length: time",
            columns=("tokens", "time", "of a pass over its chunks", "of reading it whole"),
            rows=[_times(size) for size in report.sizes],
        ),
        Grid(
            title="Memory and bytes",
            columns=(
                *("tokens", "peak memory", "of that pass", "adapter", "KV cache"),
                *("of the adapter", "energy kept"),
            ),
            rows=[_sizes(size) for size in report.sizes],
            caption=_caption(report),
        ),
    ]


def _times(size: Size) -> tuple[str, ...]:
    if size.kept is None:
        return f"{size.tokens:,}", "no adapter", "-", "-"
    return (
        f"{size.tokens:,}",
        f"{size.ms[Pass.INTERNALIZE]:,.0f} ms" if size.ms else "-",
        str(size.time_ratio or "-"),
        str(size.time_ratio_to_prefill or "beyond window"),
    )


def _sizes(size: Size) -> tuple[str, ...]:
    kept, ours = size.kept, size.memory.get(Pass.INTERNALIZE)
    of_that = "-"
    if size.peak_ratio is not None and size.working_ratio is not None:
        of_that = f"{size.peak_ratio:.2f}× ({size.working_ratio:.2f})"
    return (
        f"{size.tokens:,}",
        _bytes(ours.peak_bytes) if ours else "-",
        of_that,
        _bytes(kept.adapter_bytes) if kept else "no adapter",
        _bytes(size.kv_bytes),
        f"{size.kv_ratio:,.3g}×" if size.kv_ratio else "-",
        f"{kept.energy:.3f}" if kept else "-",
    )


def _caption(report: SizesReport) -> str:
    notes = [
        f"{told(report.about)}, seed {report.seed}. Medians of {report.repeats} rounds, in "
        "brackets the least and the greatest. A pass: the base model reads the same chunks, "
        f"{report.forward_tokens:,} tokens at a time, and predicts nothing. Memory: of a process "
        "of its own; in brackets beyond the models at rest."
    ]
    for size in report.sizes:
        if size.reason:
            notes.append(f"{size.tokens:,} tokens: {size.reason}")
        notes += [
            f"Memory of {which} at {size.tokens:,} tokens: {reason}"
            for which, reason in size.memory_reasons.items()
            if reason != size.reason
        ]
    if report.distilled:
        notes.append(str(report.distilled))
    return " ".join(note if note.endswith((".", "!")) else f"{note}." for note in notes)


def _bytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.2f} MB"
