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
from enum import Enum, auto
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_BREAK = "\x00"
"""Stands between texts; no token continues across it."""
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Tokens by the bytes they stand for (bytes as Latin-1 characters); no special tokens."""

    ids: Mapping[str, int]
    text: Mapping[int, str]
    longest: Mapping[str, int]
    """Length of the longest token that begins with these two characters."""

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerFast) -> Vocabulary:
        """Read a byte-level (GPT-2 style) or SentencePiece-style vocabulary."""
        special = set(tokenizer.all_special_ids)
        vocabulary = {t: i for t, i in tokenizer.get_vocab().items() if i not in special}
        byte_level = any(token.startswith("Ġ") for token in vocabulary)
        to_bytes = _byte_level if byte_level else _sentence_piece
        ids: dict[str, int] = {}
        longest: dict[str, int] = {}
        # Of a byte token and a token that reads the same, the latter is what models produce.
        for token, index in sorted(vocabulary.items(), key=lambda item: item[0].startswith("<0x")):
            raw = to_bytes(token).decode("latin-1")
            if raw and _BREAK not in raw:
                ids.setdefault(raw, index)
                longest[raw[:2]] = max(longest.get(raw[:2], 0), len(raw))
        return cls(ids, {index: raw for raw, index in ids.items()}, longest)


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
            spelled, offsets, boundaries = _spell(text)
            begin = len(self._origin)
            end = begin + len(spelled)
            words = [begin + at for at in boundaries if spelled[at] != " "]
            if index < len(texts):
                starts += words
                # An answer never ends in a space: one that begins with it has not begun yet.
                ends.update(begin + at for at in boundaries if at and spelled[at - 1] != " ")
            else:
                starts += words[:1]
            ends.add(end)
            buffer += (spelled, _BREAK)
            self._origin += [(index, offset) for offset in offsets]
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
        return self._first if state is self._start else self._next(state)

    def may_end(self, state: QuoteState) -> bool:
        """Tell whether the answer is a span of whole words as it stands."""
        return not state.first and not self._word_ends.isdisjoint(state.ends)

    def advance(self, state: QuoteState, token: int) -> QuoteState:
        """Return the state after an allowed token."""
        length = state.length + len(self._vocabulary.text[token])
        return QuoteState(self.allowed(state)[token], length=length)

    def text(self, state: QuoteState) -> str:
        """Return the answer so far, without spaces around it."""
        begin, end = self._place(state)
        return self._buffer[begin:end].encode("latin-1").decode(errors="replace")

    def span(self, state: QuoteState) -> tuple[int, int, int] | None:
        """Return (text, start, end) of the first place that holds the answer.

        `None` stands for an empty answer or one of the `whole` texts.
        """
        begin, end = self._place(state)
        if begin == end or self._origin[begin][0] >= self._texts:
            return None
        text, first = self._origin[begin]
        return text, first, self._origin[end - 1][1] + 1

    def _place(self, state: QuoteState) -> tuple[int, int]:
        """Return where the answer begins and ends in the buffer, spaces around it left out."""
        if state.first or not state.ends:
            return 0, 0
        end = min(state.ends & self._word_ends or state.ends)
        begin = end - state.length
        while begin < end and self._buffer[begin] == " ":
            begin += 1
        while end > begin and self._buffer[end - 1] == " ":
            end -= 1
        return begin, end

    def _next(self, state: QuoteState) -> dict[int, frozenset[int]]:
        ids, buffer, longest = self._vocabulary.ids, self._buffer, self._vocabulary.longest
        found: dict[int, set[int]] = {}
        begins = set(state.ends)
        if state.first:
            # The space before a word may be part of the answer's first token.
            begins |= {at - 1 for at in state.ends if at and buffer[at - 1] == " "}
        for begin in begins:
            for end in range(begin + 1, begin + longest.get(buffer[begin : begin + 2], 1) + 1):
                token = ids.get(buffer[begin:end])
                if token is not None:
                    found.setdefault(token, set()).add(end)
        return {token: frozenset(places) for token, places in found.items()}


def _spell(text: str) -> tuple[str, list[int], list[int]]:
    """Spell a text as bytes: the bytes, each one's character offset, where words may begin or end.

    Whitespace is collapsed; a space is put in front.
    """
    spelled, offsets, boundaries = [" "], [0], [0]
    size, previous = 1, _Kind.SPACE
    for offset, char in enumerate(text):
        kind, spelling = _read(char)
        if (
            char in ".,:"
            and text[offset - 1 : offset].isdigit()
            and text[offset + 1 : offset + 2].isdigit()
        ):
            kind = _Kind.LETTER  # a number is one word: "1,500.75", "10:15"
        if kind is _Kind.SPACE and previous is _Kind.SPACE:
            continue
        if kind is _Kind.MARK and previous is not _Kind.SPACE:
            kind = previous
        else:
            if kind is _Kind.MARK:  # of no character: a word of its own
                kind = _Kind.OTHER
            if not previous is kind is _Kind.LETTER:
                boundaries.append(size)
        spelled.append(spelling)
        offsets += [offset] * len(spelling)
        size += len(spelling)
        previous = kind
    return "".join(spelled), offsets, boundaries


class _Kind(Enum):
    """What a character is to word boundaries: only between two letters there is none."""

    SPACE = auto()
    LETTER = auto()
    MARK = auto()
    """Belongs to the character before it."""
    OTHER = auto()
    """Punctuation, and letters of scripts without spaces, where each is a word."""


@lru_cache(maxsize=4096)
def _read(char: str) -> tuple[_Kind, str]:
    """Return a character's kind and its bytes."""
    if char.isspace() or char == _BREAK:
        return _Kind.SPACE, " "
    spelling = char.encode(errors="replace").decode("latin-1")
    if unicodedata.category(char).startswith("M"):
        return _Kind.MARK, spelling
    if char.isalnum() and unicodedata.east_asian_width(char) not in "WF":
        return _Kind.LETTER, spelling
    return _Kind.OTHER, spelling
