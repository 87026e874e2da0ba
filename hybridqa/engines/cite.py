"""Find the spans that carry an answer. What is cited really stands there. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hybridqa.protocols import Generation
from hybridqa.types import Chunk, Citation, Hit, Style

_SENTENCE = re.compile(r"\S.*?(?:[.!?;]+(?=\s|$)|$)", re.MULTILINE)
_WORD = re.compile(r"\d+(?:[.,:]\d+)+\w*|\w+")
_NEGATIONS = frozenset(
    ["no", "not", "never", "none", "neither", "nor", "without", "cannot", "except", "unless"]
)
_MIN_OVERLAP = 0.7
"""Share of an answer's words that one sentence must hold to be cited for it."""


def cite_chunk(chunk: Chunk, start: int, end: int) -> Citation:
    """Cite characters `start` to `end` of a chunk, which are the answer."""
    return Citation(
        document_id=chunk.document_id,
        start=chunk.start + start,
        end=chunk.start + end,
        quote=chunk.text[start:end],
        score=1.0,
        verified="verbatim",
    )


def cite_answer(made: Generation, sources: Sequence[Chunk], hits: Sequence[Hit]) -> Citation | None:
    """Cite what was quoted, or else what supports the model's own words.

    Args:
        made: By a generator; nothing is cited where it abstained.
        sources: Where each text that its prompt could quote from stands.
        hits: Searched for support, best first.
    """
    if made.abstained:
        return None
    if made.span is None:
        return find_support(made.text, hits)
    index, start, end = made.span
    return cite_chunk(sources[index], start, end)


def told_of_wording(made: Generation, style: Style) -> tuple[str, ...]:
    """Return what to say of an answer that is no quotation where it might have been one."""
    if style is Style.EITHER and made.span is None:
        return ("no quotation was found: these are the model's own words",)
    return ()


def find_support(answer: str, hits: Sequence[Hit]) -> Citation | None:
    """Return the best evidence for an answer: the words themselves, or else a close sentence.

    Args:
        answer: Not empty.
        hits: Searched in order, so put the best first.
    """
    words = answer.split()
    if not words:
        return None
    # Neither a part of a word nor of a number: "1" is not in "1,500".
    spelled = r"\s+".join(map(re.escape, words))
    literal = re.compile(rf"(?<!\w)(?<!\d[.,:]){spelled}(?!\w)(?![.,:]\d)", re.IGNORECASE)
    for hit in hits:
        if found := literal.search(hit.chunk.text):
            return cite_chunk(hit.chunk, *found.span())
    wanted = _words(answer)
    best: Citation | None = None
    for hit in hits:
        for sentence in _SENTENCE.finditer(hit.chunk.text):
            held = _words(sentence[0])
            if _contradicts(wanted, held):
                continue
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


def _words(text: str) -> set[str]:
    # "don't" counts as "not", so that it meets its opposite.
    return {word.casefold() for word in _WORD.findall(re.sub(r"n['’]t\b", " not", text))}


def _contradicts(answer: set[str], sentence: set[str]) -> bool:
    """Tell whether a sentence lacks a number of the answer, or only one of the two negates."""
    numbers = {word for word in answer if any(char.isdigit() for char in word)}
    return not numbers <= sentence or bool(answer & _NEGATIONS) != bool(sentence & _NEGATIONS)


def within(citation: Citation, hits: Sequence[Hit]) -> bool:
    """Tell whether a citation lies, at least in part, in one of the hits."""
    return any(
        hit.chunk.document_id == citation.document_id
        and hit.chunk.start < citation.end
        and citation.start < hit.chunk.end
        for hit in hits
    )
