"""What is learned: passages, questions about them, and questions made from their sentences."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hybridqa.errors import ConfigError
from hybridqa.internalize.spans import candidate_spans

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_LONGEST_ANSWER = 12
"""Words."""
_TEXT_WORDS = 120
"""Of the passages that plain texts are cut into."""
_LEAST_CLOZE_WORDS = 6
_CLOZE_WORDS = 15
"""Of a sentence, at most, before and after what is left out."""


@dataclass(frozen=True)
class Passage:
    """A text and what may be asked about it."""

    text: str
    questions: Sequence[tuple[str, Sequence[str]]]
    """With their acceptable answers, the best first."""


def read_passages(path: str | Path, max_words: int) -> list[Passage]:
    """Return the passages of a source, none longer than so many words.

    Args:
        path: JSON Lines of `context` and `qas` (`question`, `answers`), gzipped if the name ends
            so; or a folder of texts (`.md`, `.txt`, `.rst`), which are cut into passages.
        max_words: Longer passages are left out.

    Raises:
        ConfigError: There is no such file, or a line is not as told above.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix in (".md", ".txt", ".rst"))
        return [Passage(t, ()) for file in files for t in _cut(file.read_text(errors="replace"))]
    found: list[Passage] = []
    number = 0
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
            for line in lines:
                number += 1
                row = json.loads(line)
                questions = [(q["question"], q["answers"]) for q in row["qas"] if q["answers"]]
                if len(row["context"].split()) <= max_words:
                    found.append(Passage(row["context"], questions))
    except OSError as exc:
        raise ConfigError(f"Source `{path}` cannot be read: {exc}. Give an existing file.") from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise ConfigError(
            f"Line {number} of `{path}` is no passage ({exc!r}). Each line is an object with "
            "`context` and `qas`, a list of objects with `question` and `answers`."
        ) from exc
    return found


def own_questions(passage: Passage, count: int, rng: random.Random) -> list[tuple[str, str]]:
    """Return some of a passage's questions with a short answer, preferably the passage's words."""
    fit = []
    for question, answers in passage.questions:
        literal = [answer for answer in answers if answer in passage.text]
        answer = (literal or list(answers))[0]
        if 0 < len(answer.split()) <= _LONGEST_ANSWER:
            fit.append((question, answer))
    return rng.sample(fit, min(count, len(fit)))


def cloze_questions(text: str, count: int, rng: random.Random) -> list[tuple[str, str]]:
    """Return questions made from sentences by leaving out a span and some of the other words.

    A noisy cloze is the cheapest question that can be made of any text: Lewis et al. 2019 (arXiv
    1906.04980). Words are left out lest the question's wording gives the place away.
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
            words = [*_some(before, keep, rng), "___", *_some(after, keep, rng)]
            made.append((" ".join(words), text[start:end]))
    return made


def _some(words: Sequence[str], share: float, rng: random.Random) -> list[str]:
    return [word for word in words if rng.random() < share]


def _around(text: str, start: int, end: int) -> tuple[int, int]:
    """Return the sentence in which a span stands."""
    ends = [0, *(m.end() for m in _SENTENCE_END.finditer(text)), len(text)]
    return max(e for e in ends if e <= start), min(e for e in ends if e >= end)


def _cut(text: str) -> Iterator[str]:
    """Yield passages of whole lines."""
    lines: list[str] = []
    for line in text.splitlines():
        lines.append(line)
        if sum(len(kept.split()) for kept in lines) >= _TEXT_WORDS:
            yield "\n".join(lines)[: 8 * _TEXT_WORDS]
            lines = []
