"""Which kind of document a title or file name tells: price list, contract, manual, ... Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from hybridqa.routing.document_lexicon import HEAD_ENDS, KINDS, Kind
from hybridqa.routing.phrases import Match, PhraseTable, words_of
from hybridqa.types import Document

_TABLE = PhraseTable(KINDS)
_SEGMENT = re.compile(r"[:|–—]|\s-\s")
_CUT = re.compile(r"[,;(\[]")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_EXTENSION = re.compile(r"\.[A-Za-z]{1,5}$")
_VERSION = re.compile(r"[^\W\d_]*[\s_-]*v?\d+(?:\.(?:\d+|x))+(?:[a-z]+\d*)?$", re.IGNORECASE)
_SHARE_OF_TAIL = 0.5
_RELEASE = Kind(2.5, -0.8)


class NamedKind(NamedTuple):
    """A kind and the words that told it."""

    volatility: float
    citation: float
    reason: str


def kind_of(document: Document) -> NamedKind | None:
    """Return the kind that the title names, else the file name, else a folder above it.

    The head of an English title counts in full: "Release schedule, winter" is a schedule, "Manual
    of the status page" a manual. A word after the head, or a folder's, counts half.
    """
    *folders, name = [part for part in re.split(r"[/\\]", document.id) if part] or [""]
    stem = _CAMEL.sub(" ", _EXTENSION.sub("", name))
    for label, text in (("title", document.title), ("file name", stem)):
        if found := _head(text):
            return _told(found, 1.0, f"its {label} names it a `{found.phrase}`")
        if _VERSION.fullmatch(text.strip()):
            return NamedKind(*_RELEASE, f"its {label} is a version number")
    for label, text in (("title", document.title), ("file name", stem)):
        if found := _tail(text):
            return _told(found, _SHARE_OF_TAIL, f"its {label} mentions `{found.phrase}`")
    for folder in reversed(folders):
        if found := _head(_CAMEL.sub(" ", folder)):
            return _told(found, _SHARE_OF_TAIL, f"its folder is called `{found.phrase}`")
    return None


def _told(found: Match[Kind], share: float, reason: str) -> NamedKind:
    return NamedKind(found.value.volatility * share, found.value.citation * share, reason)


def _head(text: str) -> Match[Kind] | None:
    """Return the last kind named in the head of the first segment that names one."""
    for segment in _SEGMENT.split(text):
        words = words_of(segment)
        matches = _TABLE.find(words)
        inside = {index for match in matches for index in range(match.start, match.end)}
        uncut = len(words_of(_CUT.split(segment, maxsplit=1)[0]))
        ends = [i for i, word in enumerate(words) if i and word in HEAD_ENDS and i not in inside]
        end = min([uncut, *ends])
        heads = [match for match in matches if match.start < end]
        if heads:
            return heads[-1]
    return None


def _tail(text: str) -> Match[Kind] | None:
    matches = _TABLE.find(words_of(text))
    return matches[0] if matches else None
