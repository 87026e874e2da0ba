"""What is learned: passages, questions about them, and questions made from their sentences."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from hybridqa.errors import ConfigError
from hybridqa.internalize.spans import candidate_spans

T = TypeVar("T")

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_LONGEST_ANSWER = 12
"""Words."""
_TEXT_WORDS = 120
"""Of the passages that plain texts are cut into."""
_LEAST_CLOZE_WORDS = 6
_THINNED = 0.85
"""Share of the words that stay."""
_LEAST_REST = 20
"""Words that must remain of a passage."""
_NUMBER_WORDS = ("How many", "How much", "When", "What", "Which")
_NAME_WORDS = ("Who", "What", "Which", "Where")
_PHRASE_WORDS = ("What", "What", "How", "Which", "Why")
_CLOZE_WORDS = 15
"""Of a sentence, at most, before and after what is left out."""


@dataclass(frozen=True)
class Passage:
    """A text and what may be asked about it."""

    text: str
    questions: Sequence[tuple[str, Sequence[str]]]
    """With their acceptable answers, the best first."""


def read_passages(
    path: str | Path, max_words: int, part: tuple[float, float] = (0.0, 1.0)
) -> list[Passage]:
    """Return the passages of a source, none longer than so many words.

    Args:
        path: JSON Lines of `context` and `qas` (`question`, `answers`), gzipped if the name ends
            so; or a folder of texts (`.md`, `.txt`, `.rst`), which are cut into passages.
        max_words: Longer passages are left out.
        part: Those from one share to another, in their order, all passages counted.

    Raises:
        ConfigError: There is no such file, a line is not as told above, or no passage is left.
    """
    path = Path(path)
    kept = [p for p in _taken(_passages(path), part) if len(p.text.split()) <= max_words]
    if not kept:
        raise ConfigError(
            f"Source `{path}` has no passages of at most {max_words} words in its part {part}. "
            "Give it some, a larger `passage_tokens:`, or leave it out of `sources:`."
        )
    return kept


def _passages(path: Path) -> list[Passage]:
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix in (".md", ".txt", ".rst"))
        texts = [text for file in files for text in _cut(file.read_text(errors="replace"))]
        return [Passage(text, ()) for text in texts]
    found: list[Passage] = []
    number = 0
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
            for line in lines:
                number += 1
                row = json.loads(line)
                questions = [(q["question"], q["answers"]) for q in row["qas"] if q["answers"]]
                found.append(Passage(row["context"] + "", questions))  # else it is no text
    except OSError as exc:
        raise ConfigError(f"Source `{path}` cannot be read: {exc}. Give an existing file.") from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise ConfigError(
            f"Line {number} of `{path}` is no passage ({exc!r}). Each line is an object with "
            "`context` and `qas`, a list of objects with `question` and `answers`."
        ) from exc
    return found


def own_questions(
    passage: Passage, count: int, rng: random.Random, longest: int = _LONGEST_ANSWER
) -> list[tuple[str, str]]:
    """Return some of a passage's questions with a short answer, preferably the passage's words.

    Args:
        passage: Any.
        count: At most.
        rng: Chooses.
        longest: Words of an answer.
    """
    fit = []
    for question, answers in passage.questions:
        literal = [answer for answer in answers if answer in passage.text]
        answer = (literal or list(answers))[0]
        if 0 < len(answer.split()) <= longest:
            fit.append((question, answer))
    return rng.sample(fit, min(count, len(fit)))


def cloze_questions(text: str, count: int, rng: random.Random) -> list[tuple[str, str]]:
    """Return questions made from sentences by leaving out a span and some of the other words.

    A noisy cloze is the cheapest question that can be made of any text: Lewis et al. 2019 (arXiv
    1906.04980). Words are left out lest the question's wording gives the place away; half of the
    questions begin with a question word, as theirs do.
    """
    made: list[tuple[str, str]] = []
    for start, end in candidate_spans(text, rng):
        if len(made) == count:
            break
        sentence = _around(text, start, end)
        before = text[sentence[0] : start].split()[-_CLOZE_WORDS:]
        after = text[end : sentence[1]].split()[:_CLOZE_WORDS]
        if len(before) + len(after) >= _LEAST_CLOZE_WORDS:
            keep = rng.uniform(0.4, 0.9)
            before, after, answer = (
                _some(before, keep, rng),
                _some(after, keep, rng),
                text[start:end],
            )
            if rng.random() < 0.5:
                words = [rng.choice(_asking_for(answer)), *after, *before]
                made.append((" ".join(words).rstrip(".,;:") + "?", answer))
            else:
                made.append((" ".join([*before, "___", *after]), answer))
    return made


def without_answer(text: str, answer: str) -> str | None:
    """Return a text without the sentences that say an answer; `None` if too little remains."""
    ends = _sentence_ends(text)
    sentences = [text[a:b] for a, b in pairwise(ends)]
    rest = "".join(each for each in sentences if not says(each, answer)).strip()
    if len(rest.split()) < _LEAST_REST or says(rest, answer):
        return None
    return rest


def shortened(passage: Passage, share: float, rng: random.Random) -> Passage:
    """Return, of a share of passages, some sentences in a row with the questions they answer.

    The passage itself, if it is short or they would answer nothing that it answers.
    """
    if rng.random() >= share:
        return passage
    ends = _sentence_ends(passage.text)
    first, last = sorted(rng.sample(range(len(ends)), 2)) if len(ends) > 3 else (0, -1)
    text = passage.text[ends[first] : ends[last]].strip()
    if len(text.split()) < _LEAST_REST:
        return passage
    kept = [(q, [a for a in answers if a in text]) for q, answers in passage.questions]
    questions = [(q, answers) for q, answers in kept if answers]
    if passage.questions and not questions:
        return passage
    return Passage(text, questions)


def thinned(
    asked: Sequence[tuple[str, str]], share: float, rng: random.Random
) -> list[tuple[str, str]]:
    """Return questions with their answers, a share of them without a few of their words."""
    return [(_thin(q, rng) if rng.random() < share else q, answer) for q, answer in asked]


def _thin(question: str, rng: random.Random) -> str:
    return " ".join(_some(question.split(), _THINNED, rng)) or question


def altered(question: str, text: str, others: Sequence[str], rng: random.Random) -> str | None:
    """Return a question about another name or number, one that a text does not say.

    Args:
        question: That the text answers.
        text: Any.
        others: Where the other names come from.
        rng: Chooses.

    Returns:
        `None` if there is nothing to replace, or nothing to replace it by.
    """
    for start, end in candidate_spans(question, rng):
        said = question[start:end]
        if any(c.isdigit() for c in said):
            new = "".join(rng.choice("123456789") if c.isdigit() else c for c in said)
            if not says(text, new):
                return question[:start] + new + question[end:]
        elif start and said[0].isupper():
            for other in rng.sample(others, len(others)):
                names = [other[a:b] for a, b in candidate_spans(other, rng)]
                for name in names:
                    if name[0].isupper() and not says(text, name) and not says(question, name):
                        return question[:start] + name + question[end:]
    return None


def _asking_for(answer: str) -> Sequence[str]:
    if any(c.isdigit() for c in answer):
        return _NUMBER_WORDS
    return _NAME_WORDS if answer[:1].isupper() else _PHRASE_WORDS


def says(text: str, answer: str) -> bool:
    """Tell whether a text says an answer, in large letters or small ones."""
    return answer.casefold() in text.casefold()


def _taken(items: Sequence[T], part: tuple[float, float]) -> Sequence[T]:
    first, last = (round(len(items) * share) for share in part)
    return items[first:last]


def _some(words: Sequence[str], share: float, rng: random.Random) -> list[str]:
    return [word for word in words if rng.random() < share]


def _sentence_ends(text: str) -> list[int]:
    """Return where sentences end, 0 before the first."""
    return [0, *(m.end() for m in _SENTENCE_END.finditer(text)), len(text)]


def _around(text: str, start: int, end: int) -> tuple[int, int]:
    """Return the sentence in which a span stands."""
    ends = _sentence_ends(text)
    return max(e for e in ends if e <= start), min(e for e in ends if e >= end)


def _cut(text: str) -> Iterator[str]:
    """Yield passages of whole lines."""
    lines: list[str] = []
    for line in text.splitlines():
        lines.append(line)
        if sum(len(kept.split()) for kept in lines) >= _TEXT_WORDS:
            yield "\n".join(lines)[: 8 * _TEXT_WORDS]
            lines = []
