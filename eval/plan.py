"""What a run is to ask, and how."""

from __future__ import annotations

from dataclasses import dataclass

from hybridqa.errors import InputError
from hybridqa.eval.arms import ArmName
from hybridqa.eval.cases import Dataset


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Settings of one run."""

    dataset: Dataset
    """Of which `limit` questions are chosen."""
    arms: tuple[ArmName, ...]
    metrics: tuple[str, ...]
    """Names, see `metrics`."""
    limit: int | None = None
    """Most questions; `None` asks all."""
    seed: int = 0
    """Of the choice of questions."""
    timed: int = 24
    """Questions asked first, one by one under each arm in turn, so that their timings count; the
    others are asked in batches (`auto`: one by one)."""
    batch_size: int = 16
    command: str = ""
    """Told in the manifest."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise InputError(f"The batch size must be at least 1, got {self.batch_size}.")
        if self.timed < 0:
            raise InputError(f"The number of timed questions must be 0 or more, got {self.timed}.")
