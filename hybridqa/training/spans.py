"""What a locator is asked: passages, questions, and the spans that answer them, or that none do."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hybridqa.internalize.locator import Tokenized, question_ids
from hybridqa.internalize.locator_network import LocatorConfig
from hybridqa.training.config import SourceConfig, TrainConfig
from hybridqa.training.neighbours import nearest
from hybridqa.training.passages import (
    Passage,
    altered,
    cloze_questions,
    own_questions,
    read_passages,
    says,
    shortened,
    thinned,
    without_answer,
)
from hybridqa.training.pool import Pool, invented

_NEAR = 8
"""Neighbours of a passage, whose questions it is asked, too."""
ARMS = ("right", "cut", "absent")
"""Whether a question sees its passage, that without what answers it, or the most similar other."""


@dataclass(frozen=True)
class Lesson:
    """A passage's tokens and what is asked of it: questions' tokens, each with its right spans.

    Spans are (first, last) token; a question without any is answered nowhere in the passage.
    """

    piece: Tokenized
    asked: Sequence[tuple[list[int], Sequence[tuple[int, int]]]]


class SpanLessons:
    """The lessons of a run: those of a step are a function of its number alone."""

    def __init__(self, config: TrainConfig, shape: LocatorConfig, tokenizer: Any) -> None:
        """Read the sources, and find each passage's neighbours.

        Args:
            config: Of the run.
            shape: Of the locator.
            tokenizer: Of its encoder.

        Raises:
            ConfigError: Data cannot be read.
        """
        self._config, self._shape, self._tokenizer = config, shape, tokenizer
        self._sources = [(s.weight, _Near(_read(s, config))) for s in config.sources]
        self._weights = [weight * len(near.passages) for weight, near in self._sources]
        self._pool = Pool(self._draw, lambda pair: len(pair[0].text), config.batch, config.seed)

    @property
    def passages(self) -> int:
        return sum(len(source.passages) for _, source in self._sources)

    def __getitem__(self, step: int) -> list[Lesson]:
        rng = random.Random(f"{self._config.seed}/{step}")
        return [self.lesson(passage, near, rng) for passage, near in self._pool[step]]

    def lesson(self, passage: Passage, near: Sequence[Passage], rng: random.Random) -> Lesson:
        """Return what is asked of a passage: its own questions, and such as it does not answer.

        Args:
            passage: As it was read.
            near: Its neighbours.
            rng: Chooses.
        """
        tasks = self._config.tasks
        passage = shortened(passage, tasks.shortened, rng)
        text = passage.text
        questions = thinned(self._own(passage, tasks.questions, rng), tasks.thinned, rng)
        cloze = min(tasks.cloze, tasks.questions - len(questions))
        questions += cloze_questions(text, cloze, rng)
        unanswered = []
        if questions and rng.random() < tasks.cut:
            question, answer = rng.choice(questions)
            if (rest := without_answer(text, answer)) is not None:
                text = rest
                unanswered.append(question)
        if questions and rng.random() < tasks.altered:
            others = [other.text for other in near]
            if (other := altered(rng.choice(questions)[0], passage.text, others, rng)) is not None:
                unanswered.append(other)
        if near and rng.random() < tasks.foreign:
            foreign = self._own(rng.choice(near), 1, rng)
            unanswered += [question for question, answer in foreign if not says(text, answer)]
        lesson = self._asked(text, questions)
        return Lesson(lesson.piece, [*lesson.asked, *map(self._unanswered, unanswered)])

    def some(self, count: int, rng: random.Random) -> list[Tokenized]:
        """Return so many passages, as many of a small source as of a large one."""
        near = [source for _, source in self._sources]
        return [
            Tokenized(self._tokenizer, rng.choice(rng.choice(near).passages).text)
            for _ in range(count)
        ]

    def held_out(self) -> dict[str, dict[str, list[Lesson]]]:
        """Return what is asked of the sets for examination, by their name and `ARMS`.

        Raises:
            ConfigError: Data cannot be read.
        """
        return {
            name: self._examination(_Near([p for p in _read(s, self._config) if p.questions]), name)
            for name, s in self._config.evaluation.sets.items()
        }

    def _examination(self, near: _Near, name: str) -> dict[str, list[Lesson]]:
        rng = random.Random(name)
        numbers = rng.sample(range(len(near.passages)), len(near.passages))
        asked: dict[str, list[Lesson]] = {arm: [] for arm in ARMS}
        for number in numbers:
            if len(asked["right"]) == self._config.evaluation.questions:
                break
            passage, others = near.passages[number], near.of(number)
            for question, answer in self._own(passage, 1, rng):
                lesson = self._asked(passage.text, [(question, answer)])
                if not lesson.asked:
                    continue
                asked["right"].append(lesson)
                unsaid = {
                    "cut": without_answer(passage.text, answer),
                    "absent": next((o.text for o in others if not says(o.text, answer)), None),
                }
                for arm, text in unsaid.items():
                    if text is not None:
                        lesson = Lesson(self._piece(text), [self._unanswered(question)])
                        asked[arm].append(lesson)
        for lessons in asked.values():
            lessons.sort(key=lambda lesson: len(lesson.piece.ids))
        return asked

    def _draw(self, rng: random.Random) -> tuple[Passage, Sequence[Passage]]:
        ((_, source),) = rng.choices(self._sources, self._weights)
        if rng.random() < self._config.tasks.facts:
            return invented(rng), ()
        number = rng.randrange(len(source.passages))
        return source.passages[number], source.of(number)

    def _own(self, passage: Passage, count: int, rng: random.Random) -> list[tuple[str, str]]:
        return own_questions(passage, count, rng, self._shape.span_tokens)

    def _unanswered(self, question: str) -> tuple[list[int], Sequence[tuple[int, int]]]:
        return question_ids(self._tokenizer, question), ()

    def _asked(self, text: str, questions: Sequence[tuple[str, str]]) -> Lesson:
        """Return what is asked of a passage; questions whose answer is no span of it are left."""
        piece = self._piece(text)
        asked = []
        for question, answer in questions:
            if spans := token_spans(piece, text, answer, self._shape.span_tokens):
                asked.append((question_ids(self._tokenizer, question), spans))
        return Lesson(piece, asked)

    def _piece(self, text: str) -> Tokenized:
        return Tokenized(self._tokenizer, text, self._shape.piece_tokens)


def token_spans(piece: Tokenized, text: str, answer: str, longest: int) -> list[tuple[int, int]]:
    """Return all spans of whole words, (first, last) token, that are an answer."""
    firsts = {a: n for n, (a, _) in enumerate(piece.spans) if piece.begins[n]}
    lasts = {b: n for n, (_, b) in enumerate(piece.spans) if piece.closes[n]}
    found, at, answer = [], -1, answer.strip()
    while answer and (at := text.find(answer, at + 1)) >= 0:
        first, last = firsts.get(at), lasts.get(at + len(answer))
        if first is not None and last is not None and last - first < longest:
            found.append((first, last))
    return found


class _Near:
    """Passages with their neighbours of the same source."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.passages = passages
        asked = any(passage.questions for passage in passages)
        texts = [passage.text for passage in passages]
        self._near = nearest(texts, _NEAR) if asked else [[] for _ in passages]

    def of(self, number: int) -> list[Passage]:
        return [self.passages[n] for n in self._near[number]]


def _read(source: SourceConfig, config: TrainConfig) -> list[Passage]:
    return read_passages(source.path, int(config.passage_tokens * 0.7), source.part)
