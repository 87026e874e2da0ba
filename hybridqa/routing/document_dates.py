"""Dates and dated or versioned headings in a text. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, timedelta
from itertools import pairwise
from typing import NamedTuple

RECENT = timedelta(days=180)

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = "(?:" + "|".join(f"{month}[a-z]{{0,6}}" for month in _MONTHS) + r")\.?"
_DATE = re.compile(
    r"\b(?:((?:19|20)\d\d)-([01]\d)(?:-([0-3]\d))?"  # 2026-11-22, 2026-11
    rf"|(\d{{1,2}})(?:st|nd|rd|th)?\s(?:of\s)?({_MONTH}),?\s((?:19|20)\d\d)"  # 22 November 2026
    rf"|({_MONTH})\s(?:(\d{{1,2}})(?:st|nd|rd|th)?,?\s)?((?:19|20)\d\d))\b",  # November (22,) 2026
    re.IGNORECASE,
)
_MARKUP = " \t#*=-–_[](){}<>|`"
_VERSION = re.compile(
    r"(?:[a-z][\w.+-]*\s+)?(version\s+|release\s+|v|\((?:\d:)?)?(\d+(?:\.\d+){1,3})[\w+~-]*[\])]?"
    r"(?![.\w])(.*)",
    re.IGNORECASE,
)
_RELEASE_WORD = re.compile(r"\b(?:(?:un)?released|yanked|urgency|in development)\b", re.IGNORECASE)
_PERIOD = re.compile(
    r"(?:commit\s[0-9a-f]{7,40}$|week\s\d|q[1-4]\s20\d\d|(?:mon|tues|wednes|thurs|fri|satur|sun)day\b)",
    re.IGNORECASE,
)
_LONGEST_HEADING = 100


def dates_in(text: str) -> list[date]:
    """Return all dates that name a year; a missing day counts as the month's first."""
    return [found for match in _DATE.finditer(text) if (found := _date(match))]


def _date(match: re.Match[str]) -> date | None:
    y1, m1, d1, d2, m2, y2, m3, d3, y3 = match.groups()
    year, day = y1 or y2 or y3, d1 or d2 or d3 or "1"
    month = int(m1) if m1 else _MONTHS.index((m2 or m3).lower()[:3]) + 1
    try:
        return date(int(year), month, int(day))
    except ValueError:
        return None


class Entries(NamedTuple):
    """The entries of a log or plan: headed by a version, a date, a period ("Week 47") or commit."""

    number: int
    spread: float
    """Share of the text's lines from the first entry to the last, in [0, 1]."""


def entries_in(text: str, today: date) -> Entries:
    """Find the entries of a log or plan.

    Versions without a date and dates long past count only if they descend as in a log: numbered
    sections and chronicles ascend.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    certain: list[int] = []
    versions: list[tuple[int, tuple[int, ...]]] = []
    dates: list[tuple[int, date]] = []
    for index, (line, following) in enumerate(pairwise([*lines, ""])):
        bare = line.strip(_MARKUP)
        if _PERIOD.match(bare):
            certain.append(index)
        elif (match := _DATE.match(bare)) and (found := _date(match)):
            dates.append((index, found))
        elif len(bare) <= _LONGEST_HEADING and (match := _VERSION.match(bare)):
            prefix, number, rest = match.groups()
            if _DATE.search(rest) or _RELEASE_WORD.search(rest):
                certain.append(index)
            elif not rest.strip(_MARKUP) and (
                prefix or number.count(".") > 1 or _is_heading(line, following)
            ):
                versions.append((index, tuple(int(part) for part in number.split("."))))
    if _descends([version for _, version in versions]):
        certain += [index for index, _ in versions]
    descending = _descends([found.timetuple()[:3] for _, found in dates])
    certain += [index for index, found in dates if descending or found >= today - RECENT]
    if not certain:
        return Entries(0, 0.0)
    return Entries(len(certain), (max(certain) - min(certain) + 1) / len(lines))


def _is_heading(line: str, following: str) -> bool:
    underline = following.strip()
    return line.startswith("#") or (len(underline) >= 3 and not underline.strip("=-~^"))


def _descends(values: Sequence[tuple[int, ...]]) -> bool:
    return sum((a > b) - (a < b) for a, b in pairwise(values)) > 0
