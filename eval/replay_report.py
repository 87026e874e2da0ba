"""What a replay found, and how it is shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from hybridqa.eval.statistics import Interval
from hybridqa.types import Arm, Style

_SHOWN = 20
"""Changed questions in a table for people; `as_dict` has all."""
_REASONS = 2
"""Of each of them, likewise."""


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """One question under both policies."""

    question: str
    asked_at: str
    """ISO 8601."""
    arm_before: Arm
    """That answered."""
    arm_after: Arm
    """That would."""
    settled: bool
    """False where that arm is the adapter, and its answer might yet be dropped for retrieval."""
    reasons: tuple[str, ...]
    """Of the new policy."""
    why: tuple[str, ...]
    """Those of them that the log does not have."""
    abstained_before: bool
    abstained_after: bool | None
    """`None` where it is not known."""
    answer_before: str | None
    """Empty if it abstained; `None` where it is not known, or was redacted."""
    answer_after: str | None
    f1_before: float | None
    """`None` where the answer is not known, or what is right."""
    f1_after: float | None

    @property
    def changed(self) -> bool:
        """Whether another arm answers, or the same answers otherwise for all that is known."""
        answers = (self.answer_before, self.answer_after)
        return (
            self.arm_before is not self.arm_after
            or self.abstained_after not in (None, self.abstained_before)
            or (None not in answers and self.answer_before != self.answer_after)
        )


@dataclass(frozen=True, kw_only=True)
class Quality:
    """F1 of the questions whose answers are known under both policies."""

    n: int
    before: float
    after: float
    difference: Interval
    """After - before, paired; documents are drawn."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Milliseconds per question, of those whose way is known under both policies."""

    n: int
    before: float
    """Mean of the medians below."""
    after: float
    medians: Mapping[str, float]
    """Median total of the answers that took a way, by the arms it tried."""


@dataclass(frozen=True, kw_only=True)
class ReplayReport:
    """Logged questions under another policy."""

    policy: str
    style: Style
    """Of its answers, where the caller did not choose."""
    policies: Mapping[str, int]
    """That were in force, with their numbers of questions."""
    rows: tuple[Replayed, ...]
    forced: int
    """Questions left out because the caller had chosen the arm."""
    failed: int
    """Likewise, because they ended in an error."""
    redacted: int
    """Questions replayed although answers of theirs are gone with a document."""
    quality: Quality | None
    """`None` where there is no such question; likewise `cost`."""
    cost: Cost | None

    @property
    def changes(self) -> tuple[Replayed, ...]:
        return tuple(row for row in self.rows if row.changed)

    def as_dict(self) -> dict[str, Any]:
        """Return what `hybridqa eval replay --json` prints."""
        changes = self.changes
        return {
            "policy": self.policy,
            "style": self.style,
            "policies": dict(self.policies),
            "questions": len(self.rows),
            "forced": self.forced,
            "failed": self.failed,
            "redacted": self.redacted,
            "unknown": sum(row.answer_after is None for row in self.rows),
            "changed": len(changes),
            "changed_arm": sum(row.arm_before is not row.arm_after for row in changes),
            "changed_known": sum(row.answer_after is not None for row in changes),
            "arms_before": dict(Counter(str(row.arm_before) for row in self.rows)),
            "arms_after": dict(Counter(str(row.arm_after) for row in self.rows)),
            "quality": self.quality and asdict(self.quality),
            "cost": self.cost and asdict(self.cost),
            "changes": [asdict(row) for row in changes],
        }

    def sentences(self) -> list[str]:
        """Return the findings in plain words."""
        found = self.as_dict()
        known = f"the answers to {found['changed_known']} of these {found['changed']} are known"
        told = [
            f"Under `{self.policy}`, {found['changed']} of {found['questions']} questions change, "
            f"{found['changed_arm']} of them the arm{'; ' + known if found['changed'] else ''}.",
            f"Answered by, before: {_counted(found['arms_before'])}; after: "
            f"{_counted(found['arms_after'])}.",
        ]
        if found["unknown"]:
            told.append(
                f"What {found['unknown']} of the questions would be answered is not known: neither "
                f"the log nor a run has it, in the style `{self.style}`."
            )
        if quality := self.quality:
            d = quality.difference
            told.append(
                f"F1 of the {quality.n} questions known under both: {quality.before:.3f}, then "
                f"{quality.after:.3f}; difference {d.mean:+.3f} ({d.low:+.3f} to {d.high:+.3f})."
            )
        if cost := self.cost:
            ways = ", ".join(f"{way} {ms:.0f} ms" for way, ms in cost.medians.items())
            told.append(
                f"Time of the {cost.n} questions whose way is known under both: {cost.before:.0f} "
                f"ms, then {cost.after:.0f} ms (medians: {ways})."
            )
        if self.forced or self.failed:
            told.append(
                f"Left out: {self.forced} whose arm the caller chose, {self.failed} that ended in "
                "an error."
            )
        if self.redacted:
            told.append(f"{self.redacted} lost their answers with a deleted document.")
        return told

    def markdown(self) -> str:
        """Return the findings and the first changes."""
        lines = [*self.sentences(), ""]
        if self.changes:
            lines += ["| " + " | ".join(_COLUMNS) + " |", "|---|---|---|---|"]
            lines += ["| " + " | ".join(map(_cell, _cells(row))) + " |" for row in self._shown]
            lines += ["", *self._more]
        return "\n".join(lines).rstrip() + "\n"

    def table(self) -> Group:
        """Return the same for the terminal."""
        told = Text("\n".join(self.sentences()))  # a `Text` is not read as markup
        if not self.changes:
            return Group(told)
        drawn = Table(*_COLUMNS)
        for row in self._shown:
            drawn.add_row(*map(Text, _cells(row)))
        return Group(told, drawn, *self._more)

    @property
    def _shown(self) -> tuple[Replayed, ...]:
        return self.changes[:_SHOWN]

    @property
    def _more(self) -> list[str]:
        more = len(self.changes) - _SHOWN
        return [f"{more} more change; `--json` lists all."] if more > 0 else []


_COLUMNS = ("question", "arm", "answer", "why")


def _cells(row: Replayed) -> tuple[str, str, str, str]:
    arm_after = f"{row.arm_after}" if row.settled else f"{row.arm_after}, unless it is dropped"
    return (
        row.question,
        f"{row.arm_before} → {arm_after}" if row.arm_before is not row.arm_after else arm_after,
        f"{_answer(row.answer_before, row.abstained_before)} → "
        f"{_answer(row.answer_after, row.abstained_after)}",
        "; ".join(row.why[:_REASONS]),
    )


def _answer(text: str | None, abstained: bool | None) -> str:
    if abstained:
        return "no answer"
    return "?" if text is None else f"“{text}”"


def _counted(arms: Mapping[str, int]) -> str:
    return ", ".join(f"{arm} {n}" for arm, n in sorted(arms.items())) or "none"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
