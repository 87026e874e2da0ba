"""Constrain decoding to literal spans of given texts.

The answer so far is a string; its state is every place in the texts where that string ends. A
token is allowed if its characters continue the text at one of those places, and the answer may
end where a word ends. Matching is on characters, not on the text's own tokens, so an answer may
begin without the space that stands before it in the text, and token boundaries may differ.

Runs of whitespace count as one space; spans are reported in the original offsets.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Tokens by the bytes they stand for (bytes as Latin-1 characters); no special tokens."""

    ids: Mapping[str, int]
    text: Mapping[int, str]
    longest: int

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerFast) -> Vocabulary:
        """Read a byte-level (GPT-2 style) or SentencePiece-style vocabulary."""
        special = set(tokenizer.all_special_ids)
        vocabulary = {t: i for t, i in tokenizer.get_vocab().items() if i not in special}
        byte_level = any(token.startswith("Ġ") for token in vocabulary)
        to_bytes = _byte_level if byte_level else _sentence_piece
        ids: dict[str, int] = {}
        for token, index in vocabulary.items():
            if raw := to_bytes(token):
                ids.setdefault(raw.decode("latin-1"), index)
        return cls(ids, {i: t for t, i in ids.items()}, max(map(len, ids), default=0))


@lru_cache(maxsize=1)
def _byte_alphabet() -> Mapping[str, int]:
    """Invert the published GPT-2 mapping of bytes to printable characters."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(256 + n): byte for n, byte in enumerate(rest)}


def _byte_level(token: str) -> bytes:
    alphabet = _byte_alphabet()
    return bytes(alphabet[c] for c in token) if all(c in alphabet for c in token) else b""


def _sentence_piece(token: str) -> bytes:
    if match := _BYTE_TOKEN.fullmatch(token):
        return bytes([int(match[1], 16)])
    return token.replace("▁", " ").encode()


@dataclass(frozen=True)
class QuoteState:
    """Where the answer so far ends in the evidence; `first` before the first token."""

    ends: frozenset[int]
    first: bool = False
    length: int = 0
    """Characters (bytes) generated so far."""


class Evidence:
    """Texts that may be quoted, indexed for one vocabulary. Immutable after construction."""

    def __init__(
        self, texts: Sequence[str], vocabulary: Vocabulary, whole: Sequence[str] = ()
    ) -> None:
        """Index the texts.

        Args:
            texts: Any span of whole words of these may be quoted.
            vocabulary: Of the tokenizer that generates.
            whole: May be quoted only entirely, e.g. "The text does not say."
        """
        self._vocabulary = vocabulary
        buffer: list[str] = []
        self._origin: list[tuple[int, int]] = []  # per byte: (text, character offset)
        starts: list[int] = []
        ends: set[int] = set()
        for index, text in enumerate([*texts, *whole]):
            is_whole = index >= len(texts)
            begin = len(self._origin)
            # A text begins after a space, so that its first word may carry one.
            for byte, origin, can_start, can_end in _spell(text):
                if can_start and not (is_whole and starts and starts[-1] > begin):
                    starts.append(len(self._origin))
                if can_end and not is_whole:
                    ends.add(len(self._origin))
                buffer.append(byte)
                self._origin.append((index, origin))
            if is_whole:
                ends.add(len(self._origin))
            buffer.append("\x00")  # a byte that no token continues across
            self._origin.append((-1, 0))
        self._buffer = "".join(buffer)
        self._word_ends = ends
        self._texts = len(texts)
        self._start = QuoteState(frozenset(starts), first=True)
        self._first = self._next(self._start)

    @property
    def start(self) -> QuoteState:
        return self._start

    def allowed(self, state: QuoteState) -> Mapping[int, frozenset[int]]:
        """Return the tokens that may come next, each with the places where it would end."""
        return self._first if state.first else self._next(state)

    def may_end(self, state: QuoteState) -> bool:
        """Tell whether the answer is a span of whole words as it stands."""
        return not state.first and any(end in self._word_ends for end in state.ends)

    def advance(self, state: QuoteState, token: int) -> QuoteState:
        """Return the state after an allowed token."""
        length = state.length + len(self._vocabulary.text[token])
        return QuoteState(self.allowed(state)[token], length=length)

    def span(self, state: QuoteState) -> tuple[int, int, int] | None:
        """Return (text, start, end) of the first place that holds the answer.

        `None` stands for an empty answer or one of the `whole` texts.
        """
        finished = sorted(end for end in state.ends if end in self._word_ends) or sorted(state.ends)
        if state.first or not finished:
            return None
        end = finished[0]
        begin = end - state.length
        while begin < end and self._buffer[begin] == " ":
            begin += 1
        while end > begin and self._buffer[end - 1] == " ":
            end -= 1
        if begin == end or self._origin[begin][0] >= self._texts:
            return None
        text, first = self._origin[begin]
        last = self._origin[end - 1][1]
        return text, first, last + 1

    def _next(self, state: QuoteState) -> dict[int, frozenset[int]]:
        ids, buffer, longest = self._vocabulary.ids, self._buffer, self._vocabulary.longest
        found: dict[int, set[int]] = {}
        begins = set(state.ends)
        if state.first:
            # The space before a word may be part of the answer's first token.
            begins |= {at - 1 for at in state.ends if at and buffer[at - 1] == " "}
        for begin in begins:
            limit = min(begin + longest, len(buffer))
            stop = buffer.find("\x00", begin, limit)
            for end in range(begin + 1, (limit if stop < 0 else stop) + 1):
                token = ids.get(buffer[begin:end])
                if token is not None and not (state.first and buffer[begin:end] == " "):
                    found.setdefault(token, set()).add(end)
        return {token: frozenset(places) for token, places in found.items()}


def _spell(text: str) -> list[tuple[str, int, bool, bool]]:
    """Spell a text as bytes: (byte, character offset, a word starts here, a word ended here).

    Whitespace is collapsed; a space is put in front.
    """
    spelled: list[tuple[str, int, bool, bool]] = []
    previous = " "
    for offset, char in enumerate(f" {text}"):
        if char.isspace():
            if spelled and previous == " ":
                continue
            char = " "
        boundary = _is_boundary(previous, char)
        can_start = boundary and char != " "
        for n, byte in enumerate(char.encode("utf-8", errors="replace").decode("latin-1")):
            spelled.append((byte, max(offset - 1, 0), can_start and n == 0, boundary and n == 0))
        previous = char
    return spelled


def _is_boundary(left: str, right: str) -> bool:
    """Tell whether a word may end or start between two characters."""
    if not (left.isalnum() and right.isalnum()):
        return True
    # Scripts without spaces: every wide character is its own word.
    return any(unicodedata.east_asian_width(char) in "WF" for char in (left, right))
