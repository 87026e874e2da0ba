"""What owners write about a document: a YAML block at its very start, or values of that kind."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

import yaml

from hybridqa.errors import SourceError

_BLOCK = re.compile(r"---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_MAX_CHARS = 1 << 16
_ONE_DIGIT = re.compile(r"(?<=-)(\d)(?!\d)")


@dataclass(frozen=True, kw_only=True)
class OwnersWord:
    """What the owner says of a document, apart from its text."""

    title: str | None = None
    updated: datetime | None = None
    """Timezone-aware."""
    metadata: dict[str, str] = field(default_factory=dict)
    """Everything else as written, e.g. `stability: volatile`."""


def split_front_matter(text: str, name: str) -> tuple[OwnersWord, str]:
    r"""Return the front matter and the text without it.

    A text that starts with a horizontal rule, not with a YAML mapping, is returned as it is.

    Args:
        text: With `\n` newlines.
        name: Of the file, for errors.

    Raises:
        SourceError: `updated` is not a date.
    """
    block = _BLOCK.match(text)
    if not block or block.end() > _MAX_CHARS:
        return OwnersWord(), text
    try:
        # The base loader builds but strings, lists and dicts, and keeps `1.10` and `no` as written.
        values = yaml.load(block[1], Loader=yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return OwnersWord(), text
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        return OwnersWord(), text
    scalars = {key: value.strip() for key, value in values.items() if isinstance(value, str)}
    return owners_word(scalars, name), text[block.end() :].lstrip("\n")


def owners_word(values: dict[str, str], name: str) -> OwnersWord:
    """Return written values with `title` and `updated` told from the rest; blank ones are dropped.

    Raises:
        SourceError: `updated` is not a date.
    """
    written = {key: value for key, value in values.items() if value}
    title, updated = written.pop("title", None), written.pop("updated", None)
    time = parse_time(updated, name) if updated else None
    return OwnersWord(title=title, updated=time, metadata=written)


def parse_time(value: str, name: str) -> datetime:
    """Return an ISO 8601 date or time as an aware datetime; without a zone it is UTC.

    Raises:
        SourceError: It is neither. A freshness claim must not be dropped in silence.
    """
    date, time = value[:10].rstrip(), value[10:]
    try:
        parsed = datetime.fromisoformat(_ONE_DIGIT.sub(r"0\1", date) + time)
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        raise SourceError(
            f"`{name}` says `updated: {value:.80}`, which is no date. Write it as 2026-01-31 or "
            "2026-01-31T12:00:00+00:00."
        ) from exc
