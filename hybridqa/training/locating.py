"""Teach a locator: to find the answer's span in what was kept of a passage, or that it has none."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hybridqa.internalize.locator import Tokenized, load_encoder, save_locator
from hybridqa.internalize.locator_network import LocatorConfig, LocatorNetwork, span_logits
from hybridqa.models.base import torch_device
from hybridqa.models.padding import padded
from hybridqa.models.turns import Turns
from hybridqa.training.ahead import made_ahead
from hybridqa.training.config import TrainConfig
from hybridqa.training.course import Measured
from hybridqa.training.losses import Marks
from hybridqa.training.spans import Lesson, SpanLessons

_FITTED = 96
"""Passages to whose states the narrow layer is fitted at the beginning."""
_EXAMINED = 16
"""Questions in a batch of an examination."""
_IMPOSSIBLE = -3e4


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
        self._config, self.turns = config, Turns()
        self._shape, encoder, self._tokenizer = _shape(config)
        self._device = torch_device(config.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self._network = LocatorNetwork(self._shape, encoder).to(self._device).eval()
        self.lessons = SpanLessons(config, self._shape, self._tokenizer)
        self._held_out = self.lessons.held_out()
        self._ahead = made_ahead(config, self.lessons.__getitem__, _lessons)

    @property
    def passages(self) -> int:
        return self.lessons.passages

    def parameters(self) -> dict[str, nn.Parameter]:
        return {n: p for n, p in self._network.named_parameters() if p.requires_grad}

    def adapter_parameters(self) -> Mapping[str, Any]:
        """Return the encoder's own, which are trained already."""
        new = ("ends.", "nowhere.")
        return {n: p for n, p in self.parameters().items() if not n.startswith(new)}

    @torch.no_grad()
    def prepare(self) -> None:
        """Let the narrow layer keep, of the encoder's states, the principal components."""
        states = []
        for piece in self.lessons.some(_FITTED, random.Random(self._config.seed)):
            ids, mask = padded([self._with_ends(piece)], self._device)
            states.append(self._network.alone(ids, mask, asked=False)[0])
        rows = torch.cat(states)
        mean = rows.mean(0)
        directions = torch.linalg.svd(rows - mean, full_matrices=False)[2][: self._shape.width]
        self._network.narrow.weight.copy_(directions)
        self._network.narrow.bias.copy_(-(directions @ mean))
        self._network.widen.weight.copy_(directions.T)
        self._network.widen.bias.copy_(mean)

    def learn(self, number: int) -> tuple[Tensor, Marks]:
        lessons = self._ahead[number]
        self._network.train()
        with torch.random.fork_rng(devices=[]):
            # Of the dropout: a batch's loss is a function of itself.
            torch.manual_seed(self._config.seed + number)
            losses, marks = self._taught([lesson for lesson in lessons if lesson.asked])
        self._network.eval()
        return losses.mean(), _mean(losses.detach(), marks)

    def measure(self, thorough: bool) -> Measured:
        """Return marks of questions by what they see; see `spans.ARMS`."""
        with torch.no_grad():
            return {name: self._examine(asked) for name, asked in self._held_out.items()}

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

    def _examine(self, asked: Mapping[str, Sequence[Lesson]]) -> dict[str, dict[str, float]]:
        found = {}
        for arm, lessons in asked.items():
            parts = [lessons[n : n + _EXAMINED] for n in range(0, len(lessons), _EXAMINED)]
            taught = [self._taught(part) for part in parts]
            if taught:
                losses = torch.cat([losses for losses, _ in taught])
                mean = _mean(losses, [mark for _, marks in taught for mark in marks])
                found[arm] = {
                    key: round(getattr(mean, key), 4) for key in ("loss", "first", "whole")
                }
        return found

    def _with_ends(self, piece: Tokenized) -> list[int]:
        ids = piece.ids[: self._shape.piece_tokens]
        return [self._tokenizer.cls_token_id, *ids, self._tokenizer.sep_token_id]

    @property
    def _mixed(self) -> bool:
        return self._config.dtype == "bfloat16"


def _shape(config: TrainConfig) -> tuple[LocatorConfig, Any, Any]:
    """Return the locator's shape, its encoder, and that one's tokenizer."""
    shape = config.locator
    assert shape is not None
    encoder, tokenizer, fingerprint = load_encoder(shape.encoder)
    made = LocatorConfig(
        encoder=shape.encoder,
        encoder_fingerprint=fingerprint,
        lower=shape.lower,
        width=shape.width,
        span_tokens=shape.span_tokens,
    )
    return made, encoder, tokenizer


def _lessons(config: TrainConfig) -> Callable[[int], list[Lesson]]:
    shape, _, tokenizer = _shape(config)
    return SpanLessons(config, shape, tokenizer).__getitem__


def _mean(losses: Tensor, marks: Sequence[tuple[bool, bool]]) -> Marks:
    begins, wholes = zip(*marks, strict=True)
    return Marks(float(losses.mean()), sum(begins) / len(marks), sum(wholes) / len(marks))
