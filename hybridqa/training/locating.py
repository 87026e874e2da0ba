"""Teach a locator: to find the answer's span in what was kept of a passage, or that it has none."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hybridqa.internalize.locator import Tokenized, load_encoder, question_ids, save_locator
from hybridqa.internalize.locator_network import LocatorConfig, LocatorNetwork, span_logits
from hybridqa.models.base import torch_device
from hybridqa.models.padding import padded
from hybridqa.models.turns import Turns
from hybridqa.training.ahead import made_ahead
from hybridqa.training.config import SourceConfig, TrainConfig
from hybridqa.training.course import Measured
from hybridqa.training.losses import Marks
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
_FITTED = 96
"""Passages to whose states the narrow layer is fitted at the beginning."""
_EXAMINED = 16
"""Questions in a batch of an examination."""
_IMPOSSIBLE = -3e4
ARMS = ("right", "cut", "absent")
"""Whether a question sees its passage, that without what answers it, or the most similar other."""


@dataclass(frozen=True)
class Lesson:
    """A passage's tokens and what is asked of it: questions' tokens, each with its right spans.

    Spans are (first, last) token; a question without any is answered nowhere in the passage.
    """

    piece: Tokenized
    asked: Sequence[tuple[list[int], Sequence[tuple[int, int]]]]


class LocatorCourse:
    """A `Course`."""

    def __init__(self, config: TrainConfig) -> None:
        """Load the encoder, read the data, and find each passage's neighbours.

        Args:
            config: With `locator`.

        Raises:
            ConfigError: Data cannot be read.
            ModelError: The encoder cannot be loaded.
        """
        assert config.locator is not None
        self._config, self.turns = config, Turns()
        shape = config.locator
        encoder, self._tokenizer, fingerprint = load_encoder(shape.encoder)
        self._shape = LocatorConfig(
            encoder=shape.encoder,
            encoder_fingerprint=fingerprint,
            lower=shape.lower,
            width=shape.width,
            span_tokens=shape.span_tokens,
        )
        self._device = torch_device(config.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self._network = LocatorNetwork(self._shape, encoder).to(self._device).eval()
        self._sources = [(s.weight, _Near(_read(s, config))) for s in config.sources]
        self._sets = {
            name: _Near([p for p in _read(source, config) if p.questions])
            for name, source in config.evaluation.sets.items()
        }
        self._weights = [weight * len(near.passages) for weight, near in self._sources]
        self._pool = Pool(self._draw, lambda pair: len(pair[0].text), config.batch, config.seed)
        self._ahead = made_ahead(config, self.batch, _lessons)

    @property
    def passages(self) -> int:
        return sum(len(source.passages) for _, source in self._sources)

    def parameters(self) -> dict[str, nn.Parameter]:
        return {n: p for n, p in self._network.named_parameters() if p.requires_grad}

    def adapter_parameters(self) -> Mapping[str, Any]:
        """Return the encoder's own, which are trained already."""
        new = ("ends.", "nowhere.")
        return {n: p for n, p in self.parameters().items() if not n.startswith(new)}

    @torch.no_grad()
    def prepare(self) -> None:
        """Let the narrow layer keep, of the encoder's states, the principal components."""
        rng = random.Random(self._config.seed)
        near = [source for _, source in self._sources]
        texts = [rng.choice(rng.choice(near).passages).text for _ in range(_FITTED)]
        states = []
        for text in texts:
            ids, mask = padded([self._with_ends(Tokenized(self._tokenizer, text))], self._device)
            states.append(self._network.alone(ids, mask, asked=False)[0])
        rows = torch.cat(states)
        mean = rows.mean(0)
        directions = torch.linalg.svd(rows - mean, full_matrices=False)[2][: self._shape.width]
        self._network.narrow.weight.copy_(directions)
        self._network.narrow.bias.copy_(-(directions @ mean))
        self._network.widen.weight.copy_(directions.T)
        self._network.widen.bias.copy_(mean)

    def learn(self, step: int) -> tuple[Tensor, Marks]:
        lessons = self._ahead[step]
        self._network.train()
        with torch.random.fork_rng(devices=[]):
            # Of the dropout: a step is a function of itself.
            torch.manual_seed(self._config.seed + step)
            losses, marks = self._taught([lesson for lesson in lessons if lesson.asked])
        self._network.eval()
        return losses.mean(), _mean(losses.detach(), marks)

    def batch(self, step: int) -> list[Lesson]:
        """Return a step's, a function of its number alone."""
        rng = random.Random(f"{self._config.seed}/{step}")
        return [self._lesson(passage, near, rng) for passage, near in self._pool[step]]

    def measure(self, thorough: bool) -> Measured:
        """Return marks of questions by what they see; see `ARMS`."""
        with torch.no_grad():
            return {name: self._examine(near, name) for name, near in self._sets.items()}

    def write_checkpoint(self, folder: Path) -> None:
        """Write what `internalize: locator:` takes."""
        save_locator(folder, self._network)

    def _taught(self, lessons: Sequence[Lesson]) -> tuple[Tensor, list[tuple[bool, bool]]]:
        """Return each question's loss, and whether its begin and its whole span are right."""
        ids, mask = padded([self._with_ends(lesson.piece) for lesson in lessons], self._device)
        asked = [(row, *each) for row, lesson in enumerate(lessons) for each in lesson.asked]
        question, question_mask = padded([tokens for _, tokens, _ in asked], self._device)
        own = torch.tensor([row for row, _, _ in asked], device=self._device)
        begins = self._flags([lesson.piece.begins for lesson in lessons], ids)[own]
        closes = self._flags([lesson.piece.closes for lesson in lessons], ids)[own]
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._mixed):
            kept = self._network.keep(ids, mask)
            states = self._network.alone(question, question_mask, asked=True)
            ends, nowhere = self._network.together(states, question_mask, kept[own], mask[own])
        spans = span_logits(ends, begins, closes, self._shape.span_tokens)
        count, lengths, tokens = spans.shape
        logits = torch.cat([spans.reshape(count, -1), nowhere[:, None]], 1)
        right = torch.zeros(logits.shape, dtype=torch.bool)
        for n, (_, _, found) in enumerate(asked):
            at = [(last - first) * tokens + first + 1 for first, last in found]
            right[n, at or [-1]] = True
        right = right.to(self._device)
        due = logits.masked_fill(~right, _IMPOSSIBLE).logsumexp(-1)
        chosen = logits.argmax(-1).tolist()
        marks = []
        for n, (_, _, found) in enumerate(asked):
            if chosen[n] == lengths * tokens:
                marks.append((not found, not found))
                continue
            length, first = divmod(chosen[n], tokens)
            begin = any(first - 1 == a for a, _ in found)
            marks.append((begin, (first - 1, first - 1 + length) in found))
        return logits.logsumexp(-1) - due, marks

    def _flags(self, rows: Sequence[Sequence[bool]], like: Tensor) -> Tensor:
        flags = torch.zeros(like.shape, dtype=torch.bool)
        for n, row in enumerate(rows):
            flags[n, 1 : len(row) + 1] = torch.tensor(row)  # the first token is no text
        return flags.to(self._device)

    def _examine(self, near: _Near, name: str) -> dict[str, dict[str, float]]:
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
        found = {}
        for arm, lessons in asked.items():
            lessons.sort(key=lambda lesson: len(lesson.piece.ids))
            parts = [lessons[n : n + _EXAMINED] for n in range(0, len(lessons), _EXAMINED)]
            taught = [self._taught(part) for part in parts]
            if taught:
                losses = torch.cat([losses for losses, _ in taught])
                mean = _mean(losses, [mark for _, marks in taught for mark in marks])
                found[arm] = {
                    key: round(getattr(mean, key), 4) for key in ("loss", "first", "whole")
                }
        return found

    def _draw(self, rng: random.Random) -> tuple[Passage, Sequence[Passage]]:
        ((_, source),) = rng.choices(self._sources, self._weights)
        if rng.random() < self._config.tasks.facts:
            return invented(rng), ()
        number = rng.randrange(len(source.passages))
        return source.passages[number], source.of(number)

    def _lesson(self, passage: Passage, near: Sequence[Passage], rng: random.Random) -> Lesson:
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

    def _with_ends(self, piece: Tokenized) -> list[int]:
        ids = piece.ids[: self._shape.piece_tokens]
        return [self._tokenizer.cls_token_id, *ids, self._tokenizer.sep_token_id]

    @property
    def _mixed(self) -> bool:
        return self._config.dtype == "bfloat16"


def _lessons(config: TrainConfig) -> Callable[[int], list[Lesson]]:
    return LocatorCourse(config).batch


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


def _mean(losses: Tensor, marks: Sequence[tuple[bool, bool]]) -> Marks:
    begins, wholes = zip(*marks, strict=True)
    return Marks(float(losses.mean()), sum(begins) / len(marks), sum(wholes) / len(marks))
