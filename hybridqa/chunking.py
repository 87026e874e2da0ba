"""Documents to chunks: balanced spans of whole sentences with exact offsets.

The text is tokenized once. Every gap between words is a seam with a cost: low before a heading or
a blank line, high in the middle of a sentence, highest right after a heading, which stays with the
text below it. Each cut takes the seam with the best mix of cost and nearness to the balanced
length. Work grows linearly with the text, whatever it looks like: 1 MB takes about a second.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hybridqa.errors import ConfigError
from hybridqa.types import Chunk, Document

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# What it costs to cut there; missing the balanced length by all of it costs `_IMBALANCE`.
_BEFORE_HEADING = 0.0
_PARAGRAPH = 0.15
_LINE = 0.25
_SENTENCE = 0.3
_WRAPPED_LINE = 0.6
_WORD = 1.0
_AFTER_HEADING = 2.0
_IMBALANCE = 0.5

_STOPS = ".!?…\u3002\uff01\uff1f\u0964\u061f"  # also CJK, Devanagari and Arabic
_CLOSERS = "\"')\\]”’»\u300d\u300f*_`"
_ENDERS = frozenset(_STOPS + _CLOSERS)
_SENTENCE_END = re.compile(rf"[{_STOPS}][{_CLOSERS}]*\Z")
_LINE_END = re.compile(rf"[{_STOPS}:;][{_CLOSERS}]*\Z")
_ABBREVIATION = re.compile(
    r"(?:(?:\A|[\s(])(?:[A-Za-z]|[A-Za-z]\.[A-Za-z]|Mr|Mrs|Ms|Dr|Prof|St|Nos?|vs|cf|Figs?|Eq|Secs?"
    r"|Art|Vol|approx|ca)\.|\n[ \t]*\d{1,3}[.)])\Z"
)
_GAP = re.compile(  # CJK sentences end without a space
    r"\s+|(?<=[\u3002\uff01\uff1f\u300d\u300f])(?![\s\u300d\u300f\uff09”’])"
)
_HASHES = re.compile(r"[ ]{0,3}#{1,6}\s")
_UNDERLINE = re.compile(r"[ \t]*([=\-~^\"*+#])\1+[ \t]*(?=\n|\Z)")
_ITEM = re.compile(r"(?:[-*+•|>]|\d{1,3}[.)]|[a-z][.)])(?=\s)")
_JOINERS = frozenset("\u200d\ufe0e\ufe0f")
_BLOCK_CHARS = 1 << 16


class Chunker:
    """Cuts documents into spans of at most `max_tokens` tokens, special tokens not counted.

    Every non-whitespace character lies in exactly one chunk. A single character is never divided.
    """

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        """Take over a private copy of the tokenizer: truncation and padding would hide tokens.

        Args:
            tokenizer: Of the `tokenizers` package; `backend_tokenizer` of a transformers tokenizer.
            max_tokens: At least 1.
        """
        if max_tokens < 1:
            raise ConfigError(f"`max_tokens` must be at least 1, got {max_tokens}.")
        self._tokenizer = type(tokenizer).from_str(tokenizer.to_str())
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._max_tokens = max_tokens

    def chunk(self, document: Document) -> list[Chunk]:
        """Return the chunks in order; none if the text is blank."""
        revision = document.content_hash
        return [
            Chunk(
                document_id=document.id,
                content_hash=revision,
                start=start,
                end=end,
                text=document.text[start:end],
            )
            for start, end in self._spans(document.text)
        ]

    def count(self, text: str) -> int:
        """Return the number of tokens of a text, special tokens not counted."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _spans(self, text: str) -> Iterator[tuple[int, int]]:
        length = len(text.rstrip())
        layout = _Layout.of(text, self._token_starts(text))
        start = _skip_space(text, 0)
        while start < length:
            limit = self._max_tokens
            end = min(layout.cut(start, limit), length)
            # A span by itself may have more tokens than it had in context: then ask for less.
            while (excess := self.count(text[start:end].rstrip()) - self._max_tokens) > 0:
                if end - start == 1:
                    break
                limit = max(1, limit - excess)
                nearer = layout.cut(start, limit)
                end = nearer if nearer < end else start + (end - start) // 2
            yield start, start + len(text[start:end].rstrip())
            start = _skip_space(text, end)

    def _token_starts(self, text: str) -> NDArray[np.int64]:
        """Return where each token of the text begins, shape (tokens,), ascending."""
        parts = [np.zeros(0, dtype=np.int64)]
        begin = 0
        while begin < len(text):  # in blocks, as an encoding takes some hundred bytes a token
            end = begin + _BLOCK_CHARS
            if end < len(text):
                gap = max(text.rfind("\n", begin + 1, end), text.rfind(" ", begin + 1, end))
                end = gap if gap > 0 else end
            offsets = self._tokenizer.encode(text[begin:end], add_special_tokens=False).offsets
            parts.append(np.fromiter((offset for offset, _ in offsets), np.int64) + begin)
            begin = end
        return np.maximum.accumulate(np.concatenate(parts))


@dataclass(frozen=True, eq=False)
class _Layout:
    """Where a text may be cut, and where its tokens lie."""

    text: str
    starts: NDArray[np.int64]
    """Where each token begins, shape (tokens,)."""
    seams: NDArray[np.int64]
    """Positions where a chunk may begin, ascending, shape (seams,)."""
    costs: NDArray[np.float64]
    """Of cutting there, shape (seams,)."""
    tokens: NDArray[np.int64]
    """Number of tokens that begin before each seam, shape (seams,)."""

    @classmethod
    def of(cls, text: str, starts: NDArray[np.int64]) -> _Layout:
        gaps = [gap.span() for gap in _GAP.finditer(text)]
        gaps = [(left, right) for left, right in gaps if left > 0 and right < len(text)]
        seams = np.array([right for _, right in gaps], dtype=np.int64)
        costs = np.array([_cost(text, left, right) for left, right in gaps], dtype=np.float64)
        return cls(text, starts, seams, costs, np.searchsorted(starts, seams))

    def cut(self, start: int, limit: int) -> int:
        """Return where the chunk that begins at `start` should end; always after `start`."""
        first = int(np.searchsorted(self.starts, start))
        remaining = len(self.starts) - first
        if remaining <= limit:
            return len(self.text)
        goal = remaining / math.ceil(remaining / limit)
        low, high = first + goal / 2, first + min(limit, goal * 1.5)  # leaves no tiny rest either
        a = int(np.searchsorted(self.tokens, low))
        b = int(np.searchsorted(self.tokens, high, side="right"))
        if a < b:
            distances = np.abs(self.tokens[a:b] - first - goal) / goal
            best = int(self.seams[a + int(np.argmin(self.costs[a:b] + _IMBALANCE * distances))])
            if best > start:
                return best
        return self._cut_inside(start, int(self.starts[first + math.floor(goal)]))

    def _cut_inside(self, start: int, position: int) -> int:
        """Return a cut near `position`, in a run without seams, not inside an emoji or accent."""
        position = max(position, start + 1)
        for near in range(position, max(start, position - 16), -1):
            after, before = self.text[near], self.text[near - 1]
            if not (unicodedata.combining(after) or after in _JOINERS or before == "\u200d"):
                return near
        return position


def _skip_space(text: str, position: int) -> int:
    gap = re.compile(r"\s*").match(text, position)
    return gap.end() if gap else position


def _cost(text: str, left: int, right: int) -> float:
    """Return what it costs to cut the text in the gap `text[left:right]`."""
    before = text[left - 1]
    newlines = text.count("\n", left, right)
    if newlines:
        return _cost_of_newline(text, left, right, newlines)
    if before not in _ENDERS or text[right].islower():
        return _WORD
    tail = text[max(0, left - 12) : left]
    if _SENTENCE_END.search(tail) and not _ABBREVIATION.search(tail):
        return _SENTENCE
    return _WORD


def _cost_of_newline(text: str, left: int, right: int, newlines: int) -> float:
    line = text.rfind("\n", 0, left) + 1
    line_below = text.find("\n", right) + 1
    begin = text.rfind("\n", left, right) + 1  # of the line that follows, indented or not
    underlined = newlines == 1 and _UNDERLINE.match(text, begin)
    underline = _UNDERLINE.match(text, line)
    closes_title = line >= 2 and text[line - 2] != "\n" and underline and underline.end() >= left
    if underlined or closes_title or _HASHES.match(text, line):
        return _AFTER_HEADING
    if _HASHES.match(text, begin) or (line_below and _UNDERLINE.match(text, line_below)):
        return _BEFORE_HEADING
    if newlines > 1:
        return _PARAGRAPH
    if _ITEM.match(text, right) or _LINE_END.search(text[max(0, left - 12) : left]):
        return _LINE
    return _WRAPPED_LINE
