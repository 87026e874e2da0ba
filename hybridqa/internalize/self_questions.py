"""The model asks its own questions of a text, and keeps those it can answer from it again.

Needs no other model: a span is chosen as the answer, the reader writes a question for it, reads the
text with that question, and must find an answer there, which agrees with the span as far as
`min_agreement` demands.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from hybridqa.internalize.spans import Span, candidate_spans
from hybridqa.protocols import Generation, Generator, Prompt
from hybridqa.types import Adapter, Chunk

ASK = "Write a question about this text whose answer is: "
"""What the reader was trained with; the answer follows."""

_BATCH = 16
_ATTEMPTS = 6
_QUESTION_TOKENS, _ANSWER_TOKENS = 40, 24
_ARTICLES = frozenset({"a", "an", "the"})
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, kw_only=True)
class SelfQuestion:
    """A question about a document, with the answer that its text gives."""

    question: str
    answer: str
    """Exactly `document.text[start:end]`."""
    chunk: int
    """Index of the chunk it was asked of."""
    start: int
    end: int
    agreement: float
    """Token F1 of the answer and the span that was asked for, 1.0 if one holds the other."""
    confidence: float
    """Geometric mean of the answer's token probabilities when the text was read, in [0, 1]."""


def self_questions(
    generator: Generator,
    task_adapter: Adapter | None,
    chunks: Sequence[Chunk],
    count: int,
    seed: int = 0,
    min_agreement: float = 0.6,
) -> list[SelfQuestion]:
    """Return at most `count` questions, spread over the chunks, in the order of their answers.

    Fewer come back where six attempts for each do not suffice, or the text has too few spans.

    Args:
        generator: Asks and answers.
        task_adapter: Worn for both; `None` for a model that can read by itself.
        chunks: Of one document.
        count: At least 1.
        seed: Chooses the spans.
        min_agreement: In [0, 1]. 0 keeps every question that the text answers at all.
    """
    rng = random.Random(seed)
    waiting = [candidate_spans(chunk.text, rng)[::-1] for chunk in chunks]
    kept: list[list[SelfQuestion]] = [[] for _ in chunks]
    seen: set[str] = set()
    worn = () if task_adapter is None else (task_adapter,)
    attempts = _ATTEMPTS * count
    while (missing := count - sum(map(len, kept))) > 0 and attempts > 0:
        batch = _draw(waiting, kept, min(_BATCH, attempts, 2 * missing + 2))
        if not batch:
            break
        attempts -= len(batch)
        for found in _ask(generator, worn, chunks, batch):
            asked = " ".join(_words(found.question))
            if found.agreement >= min_agreement and asked not in seen:
                seen.add(asked)
                kept[found.chunk].append(found)
    while sum(map(len, kept)) > count:
        max(kept, key=len).pop()
    return sorted((q for of in kept for q in of), key=lambda q: (q.start, q.end, q.question))


def agreement(answer: str, expected: str) -> float:
    """Return the token F1 of two answers in [0, 1]; 1.0 if the words of one hold the other's."""
    a, b = _words(answer), _words(expected)
    if not a or not b:
        return 0.0
    if _within(a, b) or _within(b, a):
        return 1.0
    common = sum((Counter(a) & Counter(b)).values())
    return 2 * common / (len(a) + len(b))


def _draw(
    waiting: Sequence[list[Span]], kept: Sequence[list[SelfQuestion]], size: int
) -> list[tuple[int, Span]]:
    """Take the next spans, each from the chunk with the fewest questions and spans so far."""
    batch: list[tuple[int, Span]] = []
    load = [len(questions) for questions in kept]
    while len(batch) < size and any(waiting):
        index = min((n for n, spans in enumerate(waiting) if spans), key=lambda n: load[n])
        batch.append((index, waiting[index].pop()))
        load[index] += 1
    return batch


def _ask(
    generator: Generator,
    worn: Sequence[Adapter],
    chunks: Sequence[Chunk],
    batch: Sequence[tuple[int, Span]],
) -> list[SelfQuestion]:
    """Ask for each span, and answer what was asked; questions that give it away fall out."""
    asking = [
        Prompt(
            question=ASK + chunks[index].text[slice(*span)],
            passages=[chunks[index].text],
            adapters=worn,
            max_tokens=_QUESTION_TOKENS,
        )
        for index, span in batch
    ]
    asked = [
        (index, span, question)
        for (index, span), generation in zip(batch, generator.generate(asking), strict=True)
        if (question := " ".join(generation.text.split()))
        and len(generation.token_ids) < _QUESTION_TOKENS
        and not _within(_words(chunks[index].text[slice(*span)]), _words(question))
    ]
    answering = [
        Prompt(
            question=question,
            passages=[chunks[index].text],
            adapters=worn,
            quote_from=[chunks[index].text],
            max_tokens=_ANSWER_TOKENS,
        )
        for index, _, question in asked
    ]
    answers = generator.generate(answering)
    found = (
        _match(chunks[index], index, span, question, answer)
        for (index, span, question), answer in zip(asked, answers, strict=True)
    )
    return [question for question in found if question is not None]


def _match(
    chunk: Chunk, index: int, span: Span, question: str, generation: Generation
) -> SelfQuestion | None:
    """Return the question with its answer's place in the document, if it has one."""
    if generation.span is None or generation.abstained:
        return None
    if len(generation.token_ids) >= _ANSWER_TOKENS:
        return None  # cut off
    _, start, end = generation.span
    answer, expected = chunk.text[start:end], chunk.text[slice(*span)]
    if _within(_words(answer), _words(question)):
        return None
    if answer.casefold() == expected.casefold():
        start, end = span  # the place that was asked about, not the first of its kind
        answer = expected
    return SelfQuestion(
        question=question,
        answer=answer,
        chunk=index,
        start=chunk.start + start,
        end=chunk.start + end,
        agreement=agreement(answer, expected),
        confidence=math.exp(sum(generation.logprobs) / len(generation.logprobs)),
    )


def _words(text: str) -> list[str]:
    """Return the words of a text in lower case, without English articles."""
    return [word for word in _WORD.findall(text.casefold()) if word not in _ARTICLES]


def _within(part: Sequence[str], whole: Sequence[str]) -> bool:
    """Tell whether the words of `part` stand in `whole` in a row."""
    size = len(part)
    return not size or any(list(whole[n : n + size]) == list(part) for n in range(len(whole)))
