"""Find the spans that carry an answer. What is cited really stands there. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hybridqa.types import Citation, Hit

_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*")
_WORD = re.compile(r"\w+")
_MIN_OVERLAP = 0.7
"""Share of an answer's words that one sentence must hold to be cited for it."""


def cite_passage(hit: Hit, start: int, end: int) -> Citation:
    """Cite characters `start` to `end` of a hit's chunk, which are the answer."""
    chunk = hit.chunk
    return cite_document(
        chunk.document_id, chunk.text[start:end], chunk.start + start, chunk.start + end
    )


def cite_document(document_id: str, quote: str, start: int, end: int) -> Citation:
    """Cite characters `start` to `end` of a document, which are the answer."""
    return Citation(
        document_id=document_id, start=start, end=end, quote=quote, score=1.0, verified="verbatim"
    )


def find_support(answer: str, hits: Sequence[Hit]) -> Citation | None:
    """Return the best evidence for an answer: the words themselves, or else a close sentence.

    Args:
        answer: Not empty.
        hits: Searched in order, so put the best first.
    """
    words = answer.split()
    if not words:
        return None
    literal = re.compile(r"(?<!\w)" + r"\s+".join(map(re.escape, words)) + r"(?!\w)", re.IGNORECASE)
    for hit in hits:
        if found := literal.search(hit.chunk.text):
            return cite_passage(hit, *found.span())
    wanted = {word.casefold() for word in _WORD.findall(answer)}
    best: Citation | None = None
    for hit in hits:
        for sentence in _SENTENCE.finditer(hit.chunk.text):
            held = {word.casefold() for word in _WORD.findall(sentence[0])}
            score = len(wanted & held) / len(wanted) if wanted else 0.0
            if score >= _MIN_OVERLAP and (best is None or score > best.score):
                quote = sentence[0].strip()
                start = hit.chunk.start + sentence.start() + sentence[0].index(quote)
                best = Citation(
                    document_id=hit.chunk.document_id,
                    start=start,
                    end=start + len(quote),
                    quote=quote,
                    score=score,
                    verified="overlap",
                )
    return best


def within(citation: Citation, hits: Sequence[Hit]) -> bool:
    """Tell whether a citation lies, at least in part, in one of the hits."""
    return any(
        hit.chunk.document_id == citation.document_id
        and hit.chunk.start < citation.end
        and citation.start < hit.chunk.end
        for hit in hits
    )
