"""The arms of a comparison: what each has in its prompt, what it wears, what it may quote.

All but `auto` are the bare arms: nothing is checked or withheld, so that their scores show what
each source of knowledge is worth. `auto` is the product, with its router, checks and fallback.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from hybridqa.errors import InputError
from hybridqa.types import Style


class ArmName(StrEnum):
    """What may be compared."""

    BASE = "base"
    """No document anywhere. Free: the model as it answers under the arm `base`. Quoting: from what
    `adapter` quotes from, worn what lies under the adapter but not the adapter: what the
    constraint alone is worth to it."""
    CONTEXT = "context"
    """The question's own document in the prompt."""
    ADAPTER = "adapter"
    """The adapter of the question's own document, worn in part as the engine does; no passage in
    the prompt. Quotes come from the passage that this part was made from."""
    WRONG_ADAPTER = "wrong-adapter"
    """The adapter of the next document of the run; quotes come from what `adapter` quotes from."""
    DISTILLED = "distilled"
    """As `adapter`, but made by context distillation: minutes instead of a forward pass."""
    REFINED = "refined"
    """As `adapter`, and then improved by some steps of distillation."""
    RETRIEVAL = "retrieval"
    """The best chunks of all documents of the run in the prompt."""
    BOTH = "both"
    """The same, and worn the adapter of the document that the best of them is from."""
    AUTO = "auto"
    """The policy decides, over all documents of the run."""


WEARING = frozenset(
    {
        ArmName.ADAPTER,
        ArmName.WRONG_ADAPTER,
        ArmName.DISTILLED,
        ArmName.REFINED,
        ArmName.BOTH,
        ArmName.AUTO,
    }
)
"""Arms that need adapters made."""

TRAINED = {ArmName.DISTILLED: "distillation", ArmName.REFINED: "refinement"}
"""Arms whose adapters are trained, and the internalizer that trains them."""

SEARCHING = frozenset({ArmName.RETRIEVAL, ArmName.BOTH, ArmName.AUTO})
"""Arms that must find their evidence."""

_STYLES = (Style.FREE, Style.QUOTE)
_LOOKED_THROUGH = frozenset({ArmName.ADAPTER, ArmName.RETRIEVAL, ArmName.BOTH})
"""Arms whose evidence a locator looks through: they are measured in the style `either`, too."""

_PAIRS = (
    (ArmName.ADAPTER, ArmName.WRONG_ADAPTER),
    (ArmName.ADAPTER, ArmName.BASE),
    (ArmName.ADAPTER, ArmName.CONTEXT),
    (ArmName.DISTILLED, ArmName.ADAPTER),
    (ArmName.DISTILLED, ArmName.CONTEXT),
    (ArmName.REFINED, ArmName.ADAPTER),
    (ArmName.REFINED, ArmName.DISTILLED),
    (ArmName.REFINED, ArmName.CONTEXT),
    (ArmName.RETRIEVAL, ArmName.CONTEXT),
    (ArmName.BOTH, ArmName.RETRIEVAL),
    (ArmName.BOTH, ArmName.ADAPTER),
    (ArmName.AUTO, ArmName.RETRIEVAL),
    (ArmName.AUTO, ArmName.ADAPTER),
)


@dataclass(frozen=True)
class StyledArm:
    """An arm in one answer style; `style` is `None` for `auto`, where the policy says."""

    arm: ArmName
    style: Style | None

    def __str__(self) -> str:
        return str(self.arm) if self.style in (None, Style.FREE) else f"{self.arm}+{self.style}"


def parse_arms(names: Sequence[str]) -> tuple[ArmName, ...]:
    """Return the named arms, each once.

    Raises:
        InputError: There is no such arm, or none is named.
    """
    valid = ", ".join(ArmName)
    cleaned = [name.strip() for name in names]
    for name in cleaned:
        if name not in set(ArmName):
            raise InputError(f"There is no arm `{name}`. Name some of: {valid}.")
    if not cleaned:
        raise InputError(f"No arm is named. Name some of: {valid}.")
    return tuple(dict.fromkeys(map(ArmName, cleaned)))


def styled(arms: Sequence[ArmName]) -> tuple[StyledArm, ...]:
    """Return every arm in the styles it is measured in."""
    return tuple(StyledArm(arm, style) for arm in arms for style in _styles(arm))


def _styles(arm: ArmName) -> tuple[Style | None, ...]:
    if arm is ArmName.AUTO:
        return (None,)
    return (*_STYLES, Style.EITHER) if arm in _LOOKED_THROUGH else _STYLES


def comparisons(arms: Sequence[StyledArm]) -> tuple[tuple[StyledArm, StyledArm], ...]:
    """Return the pairs worth a paired difference: an arm and what it is measured against.

    Both are of one style, and `auto` stands beside any; and an arm in the style `either` stands
    beside itself in the others.
    """
    across = [
        (one, other)
        for first, second in _PAIRS
        for one in arms
        for other in arms
        if one.arm is first and other.arm is second and one.style in (other.style, None)
    ]
    within = [
        (one, other)
        for one in arms
        for other in arms
        if one.arm is other.arm and one.style is Style.EITHER and other.style is not Style.EITHER
    ]
    return tuple(across + within)


def under_policy(arm: ArmName, style: Style) -> StyledArm:
    """Return an arm as `auto` has it answer: in the policy's style; `base`, without a source, free.

    For `auto` itself, return `auto`.
    """
    if arm is ArmName.AUTO:
        return StyledArm(arm, None)
    return StyledArm(arm, Style.FREE if arm is ArmName.BASE else style)
