"""Passages and questions as tensors: a row for each passage, its questions side by side in it.

All prompts begin alike (the chat template up to the question), so a row holds that beginning once
and then one branch for each question, which sees the beginning and itself.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from hybridqa.errors import ConfigError
from hybridqa.models.base import BaseModel
from hybridqa.models.generator import TorchGenerator
from hybridqa.models.padding import padded
from hybridqa.protocols import Prompt
from hybridqa.training.ahead import Sent
from hybridqa.training.config import TrainConfig
from hybridqa.training.passages import (
    Passage,
    cloze_questions,
    own_questions,
    read_passages,
    shortened,
    thinned,
)
from hybridqa.training.pool import Pool, invented

NOTHING = -100
"""Label of a place at which nothing is to be learned."""
_LONGEST_QUESTION = 80
"""Tokens: all questions of a passage lie side by side, so a few long ones fill the memory."""
_EXCERPT = 48
"""Tokens of another passage that are read on in."""
_PROBES = ("a", "7", "Q")
_NEXT = 1 << 20
"""Steps to the batch that stands in for one without questions."""
_TRIED = 100


@dataclass(frozen=True)
class Branch:
    """A question, as tokens."""

    question: Sequence[int]
    """With the end of its turn and the beginning of the answer's."""
    answer: Sequence[int]
    """End of sequence included."""
    starts: Sequence[int] = ()
    """Where the answer begins in the passage's tokens."""
    foreign: bool = False
    """Whether another passage answers it."""


@dataclass(frozen=True)
class Example:
    """A passage and what is asked."""

    text: str
    chunk: Sequence[int]
    """Its tokens; of a long one, the first."""
    branches: Sequence[Branch]


@dataclass(frozen=True, eq=False)
class Batch(Sent):
    """Rows are passages."""

    chunk_ids: Tensor
    """(rows, tokens), padded on the right, as the next."""
    chunk_mask: Tensor
    ids: Tensor
    """(rows, places): the prompts' common beginning, then the branches."""
    positions: Tensor
    attention: Tensor
    """(rows, 1, places, places), true where a place sees another."""
    labels: Tensor
    """(rows, places): the token that is due next, or `NOTHING`."""
    first: Tensor
    """(rows, places), true where the due token is an answer's first."""
    foreign: Tensor
    """(rows, places), true where the due token is of a question on another passage."""
    lookups: Tensor
    """(lookups, 2): row and place of the due tokens that stand in the passage."""
    found: Tensor
    """(lookups, tokens), true for the passage's tokens before these; of the row's own passage."""
    shown: Batch | None = None
    """The same questions with the passage in their prompts, if the model is to show how."""
    worn: int = 1
    """Updates that each row wears: its own and those of the rows after it."""

    def to(self, device: torch.device) -> Batch:
        """Return the same on a device."""
        moved: dict[str, Any] = {
            n: t.to(device) for n, t in vars(self).items() if isinstance(t, Tensor | Batch)
        }
        return replace(self, **moved)


class Tokens:
    """Tokenizes passages and questions for one base model."""

    def __init__(self, base: BaseModel, passage_tokens: int) -> None:
        self._base, self._longest = base, passage_tokens
        self._generator = TorchGenerator(base)
        prompts = [self._prompt(probe) for probe in _PROBES]
        self.beginning = prompts[0][: _common(prompts)]
        self._end = int(self._base.tokenizer.eos_token_id)

    def chunk(self, text: str) -> list[int]:
        return self._base.plain_ids(text)[: self._longest]

    def prompt(self, question: str, passage: str) -> list[int]:
        """Return the prompt with the passage in it."""
        return self._generator.prompt_ids(
            Prompt(question=question, passages=(passage,), max_tokens=1)
        )

    def opening(self, passage: str) -> list[int]:
        """Return the beginning of prompts with the passage in them, up to the question."""
        prompts = [self.prompt(probe, passage) for probe in _PROBES]
        return prompts[0][: _common(prompts)]

    def branch(
        self, question: str, answer: str, chunk: Sequence[int], foreign: bool = False
    ) -> Branch | None:
        """Return a question's tokens; nothing if it is long or its prompt begins unlike the others.

        The answer's tokens are the passage's own, if it stands there.
        """
        prompt, n = self._prompt(question), len(self.beginning)
        if prompt[:n] != self.beginning or not 0 < len(prompt) - n <= _LONGEST_QUESTION:
            return None
        ways = [self._base.plain_ids(before + answer) for before in (" ", "")]
        starts = [[] if foreign else _occurrences(way, chunk) for way in ways]
        at = 1 if starts[1] and not starts[0] else 0
        return Branch(prompt[n:], [*ways[at], self._end], starts[at], foreign)

    def excerpt(self, text: str, rng: random.Random) -> Branch | None:
        """Return some tokens in a row of another passage's text; nothing of a short one."""
        tokens = self.chunk(text)
        if len(tokens) < _EXCERPT:
            return None
        at = rng.randint(0, len(tokens) - _EXCERPT)
        return Branch(tokens[at : at + 1], tokens[at + 1 : at + _EXCERPT], foreign=True)

    def _prompt(self, question: str) -> list[int]:
        return self._generator.prompt_ids(Prompt(question=question, max_tokens=1))


class Lessons:
    """The batches of a run: each is a function of its number alone."""

    def __init__(self, base: BaseModel, config: TrainConfig) -> None:
        """Read the sources.

        Raises:
            ConfigError: A source cannot be read, or there are fewer passages than a batch holds.
        """
        self._tokens, self._config = Tokens(base, config.passage_tokens), config
        self._sources = [
            (source.weight, read_passages(source.path, config.passage_tokens, source.part))
            for source in config.sources
        ]
        self._weights = [weight * len(passages) for weight, passages in self._sources]
        self._pool = Pool(self._draw, lambda p: len(p.text), config.batch, config.seed)

    @property
    def passages(self) -> int:
        return sum(len(passages) for _, passages in self._sources)

    def __getitem__(self, step: int) -> Batch:
        rng = random.Random(f"{self._config.seed}/{step}")
        for number in range(step, step + _NEXT * _TRIED, _NEXT):
            drawn = [self._example(passage, rng) for passage in self._pool[number]]
            if examples := [example for example in drawn if example.branches]:
                break
        else:
            raise ConfigError("None of the questions of `sources:` is short enough. Give others.")
        batch = pack(examples, [self._tokens.beginning] * len(examples))
        if rng.random() < self._config.tasks.several:
            batch = replace(batch, worn=rng.randint(2, self._config.tasks.at_once))
        if not self._config.losses.soft:
            return batch
        openings = [self._tokens.opening(example.text) for example in examples]
        return replace(batch, shown=pack(examples, openings))

    def _draw(self, rng: random.Random) -> Passage:
        ((_, passages),) = rng.choices(self._sources, self._weights)
        if rng.random() < self._config.tasks.facts:
            return invented(rng)
        return rng.choice(passages)

    def _example(self, passage: Passage, rng: random.Random) -> Example:
        tasks = self._config.tasks
        passage = shortened(passage, tasks.shortened, rng)
        chunk = self._tokens.chunk(passage.text)
        asked = thinned(own_questions(passage, tasks.questions, rng), tasks.thinned, rng)
        cloze = tasks.cloze if asked else tasks.cloze + tasks.questions
        asked += cloze_questions(passage.text, cloze, rng)
        branches = [self._tokens.branch(q, a, chunk) for q, a in asked]
        if rng.random() < tasks.foreign:
            _, others = rng.choice(self._sources)
            for q, a in own_questions(rng.choice(others), 1, rng):
                branches.append(self._tokens.branch(q, a, chunk, foreign=True))
        if rng.random() < tasks.texts:
            _, others = rng.choice(self._sources)
            branches.append(self._tokens.excerpt(rng.choice(others).text, rng))
        return Example(passage.text, chunk, [branch for branch in branches if branch])


def pack(examples: Sequence[Example], beginnings: Sequence[Sequence[int]]) -> Batch:
    """Lay out examples, each with at least one branch, and what each one's prompts begin with."""
    chunk_ids, chunk_mask = padded([e.chunk for e in examples])
    tokens = chunk_ids.shape[1]
    rows, positions, segments, labels = [], [], [], []
    first: list[tuple[int, int]] = []
    foreign: list[tuple[int, int]] = []
    lookups: list[tuple[int, int]] = []
    found: list[list[int]] = []
    for row, (example, beginning) in enumerate(zip(examples, beginnings, strict=True)):
        n = len(beginning)
        ids, at, segment = list(beginning), list(range(n)), [0] * n
        due = [NOTHING] * n
        for number, branch in enumerate(example.branches, 1):
            offset = len(ids) + len(branch.question) - 1
            together = [*branch.question, *branch.answer[:-1]]
            ids += together
            at += range(n, n + len(together))
            segment += [number] * len(together)
            due += [NOTHING] * (len(branch.question) - 1) + list(branch.answer)
            first.append((row, offset))
            if branch.foreign:
                foreign += [(row, offset + j) for j in range(len(branch.answer))]
            for j in range(len(branch.answer) - 1):
                # What stands before the due token is to be found; before a chunk's first, nothing.
                places = [start + j - 1 for start in branch.starts if start + j > 0]
                if places:
                    lookups.append((row, offset + j))
                    found.append(places)
        rows.append(ids)
        positions.append(at)
        segments.append(segment)
        labels.append(due)
    ids_tensor, mask = padded(rows)
    segment_tensor = padded(segments)[0].masked_fill(mask == 0, -1)
    same = segment_tensor[:, :, None] == segment_tensor[:, None, :]
    causal = torch.ones(mask.shape[1], mask.shape[1], dtype=torch.bool).tril()
    attention = (same | (segment_tensor == 0)[:, None, :]) & causal
    where = torch.zeros(len(lookups), tokens, dtype=torch.bool)
    for number, places in enumerate(found):
        where[number, places] = True
    return Batch(
        chunk_ids,
        chunk_mask,
        ids_tensor,
        padded(positions)[0],
        attention[:, None],
        padded(labels)[0].masked_fill(mask == 0, NOTHING),
        _marked(first, mask),
        _marked(foreign, mask),
        torch.tensor(lookups, dtype=torch.long).reshape(-1, 2),
        where,
    )


def _common(sequences: Sequence[Sequence[int]]) -> int:
    """Return how many first tokens are the same in all of some sequences."""
    same = [len(set(column)) == 1 for column in zip(*sequences, strict=False)]
    return [*same, False].index(False)


def _marked(places: Sequence[tuple[int, int]], like: Tensor) -> Tensor:
    marks = torch.zeros(like.shape, dtype=torch.bool)
    for row, place in places:
        marks[row, place] = True
    return marks


def _occurrences(wanted: Sequence[int], tokens: Sequence[int]) -> list[int]:
    size, wanted = len(wanted), list(wanted)
    return [n for n in range(len(tokens) - size + 1) if list(tokens[n : n + size]) == wanted]
