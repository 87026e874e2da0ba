"""Spans of a text that make good answers: numbers, names and short phrases.

Knows scripts, not languages: digits, capital letters and word lengths are all it looks at.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from itertools import zip_longest

Span = tuple[int, int]

_WORD = re.compile(r"[^\W_](?:[\w'’.,:/%°-]*[\w%°])?", re.UNICODE)
_SENTENCE_START = re.compile(r"(?:\A|[.!?\u3002\uff01\uff1f:\n|*#>•-])[\s*_#>|\"'“(-]*\Z")
_LINK = re.compile(r" (?:of|the|and|de|la|van|von|der|&) \Z")
_MAX_CHARS = 60
_SHORT = 3
"""Words of at most so many letters mostly hold a sentence together."""


def candidate_spans(text: str, rng: random.Random) -> list[Span]:
    """Return (start, end) of possible answers, none twice by its words, in a random order.

    The kinds take turns, so that any first few hold numbers, names and phrases alike.
    """
    kinds = [list(_numbers(text)), list(_names(text)), list(_phrases(text))]
    for spans in kinds:
        rng.shuffle(spans)
    seen: set[str] = set()
    mixed = []
    for turn in zip_longest(*kinds):
        for span in turn:
            words = text[slice(*span)].casefold() if span else ""
            if span and words not in seen:
                seen.add(words)
                mixed.append(span)
    return mixed


def _numbers(text: str) -> Iterator[Span]:
    """Yield numbers with what belongs to them: `12 May 2024`, `30 days`, `€ 40`."""
    for run in _runs(text):
        digits = [any(c.isdigit() for c in text[a:b]) for a, b in run]
        n = 0
        while n < len(run):
            if not digits[n]:
                n += 1
                continue
            last = n
            while last + 1 < len(run) and (digits[last + 1] or text[run[last + 1][0]].isupper()):
                last += 1
            if last == n and n + 1 < len(run):
                last += 1  # the unit
            start = run[n][0]
            if start and text[start - 1] in "$€£¥":
                start -= 1
            yield from _fitting(start, run[last][1])
            n = last + 1


def _names(text: str) -> Iterator[Span]:
    """Yield runs of capitalised words; a single one must not just begin its sentence."""
    names: list[Span] = []
    for a, b in (span for run in _runs(text) for span in run):
        if not text[a].isupper():
            continue
        gap = text[names[-1][1] : a] if names else ""
        if gap == " " or _LINK.fullmatch(gap):
            names[-1] = (names[-1][0], b)
        else:
            names.append((a, b))
    for a, b in names:
        if " " in text[a:b] or not _SENTENCE_START.search(text[max(0, a - 12) : a]):
            yield from _fitting(a, b)


def _phrases(text: str) -> Iterator[Span]:
    """Yield runs of longer words without digits, such as `bronze impeller`."""
    for run in _runs(text):
        phrase: list[Span] = []
        for a, b in [*run, (0, 0)]:
            if b - a > _SHORT and not any(c.isdigit() for c in text[a:b]):
                phrase.append((a, b))
            elif phrase:
                yield from _fitting(phrase[0][0], phrase[-1][1])
                phrase = []


def _runs(text: str) -> Iterator[list[Span]]:
    """Yield words with nothing but single spaces (or a hyphen) between them."""
    run: list[Span] = []
    for match in _WORD.finditer(text):
        if run and text[run[-1][1] : match.start()] not in (" ", "\n"):
            yield run
            run = []
        run.append(match.span())
    if run:
        yield run


def _fitting(start: int, end: int) -> Iterator[Span]:
    if end - start <= _MAX_CHARS:
        yield start, end
