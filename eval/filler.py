"""Text of any length to hide something in, or to measure on: nothing is downloaded."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from hybridqa.errors import InputError

if TYPE_CHECKING:
    from hybridqa.models.base import BaseModel

SAMPLE = Path(__file__).resolve().parent / "sample"

_NOISE = (
    "The grass is green and the sky is blue. The sun goes up in the morning, and in the evening "
    "it goes down again. Here we go, there and back again. Nothing else happens today."
)
_PROSE = re.compile(r"\w.{79,}[.!?]\Z", re.DOTALL)
_SEAM = re.compile(r"(?<=[.!?])\s+(?=\S)")
_MARGIN_TOKENS = 32


class FillerKind(StrEnum):
    """What a long text is made of."""

    SAMPLE = "sample"
    """Paragraphs of the sample documents, in random order; all are used before any comes again
    (some 8,000 tokens)."""
    NOISE = "noise"
    """The same few sentences over and over, as in RULER (arXiv 2404.06654)."""


class Filler:
    """Texts of an exact number of the model's tokens."""

    def __init__(self, base: BaseModel, kind: FillerKind = FillerKind.SAMPLE) -> None:
        self._base, self.kind = base, kind

    def text(self, tokens: int, rng: random.Random) -> str:
        """Return a text of so many tokens, special tokens not counted; it may end anywhere.

        Raises:
            InputError: `tokens` is below 1.
        """
        if tokens < 1:
            raise InputError(f"A text must have at least 1 token, got {tokens}.")
        drawn, have = [], 0
        for paragraph, count in self._paragraphs(rng):
            drawn.append(paragraph)
            have += count
            # Joined, paragraphs may have a few tokens less than each by itself.
            if have > tokens + tokens // 20 + _MARGIN_TOKENS:
                break
        text = "\n\n".join(drawn)
        encoded = self._base.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return text[: encoded["offset_mapping"][tokens - 1][1]]

    @cached_property
    def distinct_tokens(self) -> int:
        """How many tokens there are before any paragraph comes again."""
        return sum(count for _, count in self._stock)

    def _paragraphs(self, rng: random.Random) -> Iterator[tuple[str, int]]:
        while True:
            yield from rng.sample(self._stock, len(self._stock))

    @cached_property
    def _stock(self) -> list[tuple[str, int]]:
        """Paragraphs, each with its number of tokens."""
        texts: Sequence[str] = [_NOISE] if self.kind is FillerKind.NOISE else _sample_prose()
        return [(text, len(self._base.plain_ids(text))) for text in texts]


def planted(text: str, sentence: str, depth: float) -> str:
    """Return a text with a sentence put between two of its own.

    Args:
        text: Of any length; without sentences, it is put before or after all of it.
        sentence: Whole.
        depth: Share of the text before it, in [0, 1]: 0 puts it first and 1 last. In between, it
            goes to the nearest end of a sentence.
    """
    at = depth * len(text)
    seams = [0, *(seam.end() for seam in _SEAM.finditer(text)), len(text)]
    place = min(seams, key=lambda seam: abs(seam - at))
    before, after = text[:place].rstrip(), text[place:]
    gap = text[len(before) : place] or " "
    if not before:
        return f"{sentence} {after}"
    return f"{before}{gap}{sentence} {after}".rstrip()


def _sample_prose() -> list[str]:
    """Return the paragraphs of the sample documents that are prose: no tables, lists, headings."""
    from hybridqa.eval.datasets import load

    paragraphs = (
        paragraph.strip()
        for document in load(str(SAMPLE)).documents
        for paragraph in document.text.split("\n\n")
    )
    return [text for text in paragraphs if _PROSE.match(text) and "|" not in text]
