"""Finds the phrases of a lexicon in a text: whole words, longest phrase first."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

_WORD = re.compile(r"[^\W_]+")
_PATTERN = re.compile(r"[^\W_]+|[#*]")


class Match(NamedTuple, Generic[T]):
    """A phrase found at words[start:end]."""

    phrase: str
    value: T
    start: int
    end: int


def words_of(text: str) -> list[str]:
    """Return the words in lower case; punctuation, hyphens and apostrophes separate words."""
    return _WORD.findall(text.lower())


class PhraseTable(Generic[T]):
    """Phrases with values, looked up by their first word.

    After the first word, `#` stands for any number and `*` for any one word. Where two phrases
    fit, the longer wins, so that a false friend is switched off by a longer phrase of weight 0.
    """

    def __init__(self, phrases: Mapping[str, T]) -> None:
        self._by_word: dict[str, list[tuple[tuple[str, ...], str, T]]] = {}
        for phrase, value in phrases.items():
            first, *rest = _PATTERN.findall(phrase)
            self._by_word.setdefault(first, []).append((tuple(rest), phrase, value))
        for entries in self._by_word.values():
            entries.sort(key=lambda entry: -len(entry[0]))

    def find(self, words: Sequence[str]) -> list[Match[T]]:
        """Return all matches from left to right, without overlaps."""
        matches: list[Match[T]] = []
        free = 0
        for start, word in enumerate(words):
            if start < free or word not in self._by_word:
                continue
            for rest, phrase, value in self._by_word[word]:
                free = start + 1 + len(rest)
                if all(map(_same, rest, words[start + 1 : free])) and free <= len(words):
                    matches.append(Match(phrase, value, start, free))
                    break
            else:
                free = start
        return matches


def _same(expected: str, word: str) -> bool:
    return expected in (word, "*") or (expected == "#" and word[0].isdigit())
