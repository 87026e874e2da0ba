"""Teach a reader: to answer from passages, to say that they do not say, and to ask.

Neighbouring passages stand in a group; each is read apart from the others, and the questions about
all of them side by side. Which passages a question sees differs from question to question, so that
a passage is read once and serves as the right one, as a distractor and as the wrong one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridqa.internalize.self_questions import ASK
from hybridqa.models.base import BaseModel
from hybridqa.models.generator import ABSTENTION
from hybridqa.models.lora import stack, worn
from hybridqa.models.turns import Turns
from hybridqa.training.ahead import made_ahead
from hybridqa.training.batches import NOTHING
from hybridqa.training.config import ReadingConfig, SourceConfig, TrainConfig
from hybridqa.training.course import Measured
from hybridqa.training.groups import Ask, Group, Layout, ReadingBatch
from hybridqa.training.losses import Marks
from hybridqa.training.neighbours import nearest
from hybridqa.training.passages import Passage, own_questions, read_passages
from hybridqa.training.task_adapter import trainable, write_task_adapter
from hybridqa.types import Adapter, LoraLayer

ARMS = ("alone", "among", "absent")
"""Whether a question sees its passage alone, among others, or others only."""
_EXAMINED = 8
"""Groups in a batch of an examination."""


class ReaderCourse:
    """A `Course`."""

    def __init__(
        self, base: BaseModel, start: Mapping[str, LoraLayer], config: TrainConfig
    ) -> None:
        """Read the data, and find each passage's neighbours.

        Args:
            base: The frozen model.
            start: Factors that training begins with.
            config: With `reading`.

        Raises:
            ConfigError: Data cannot be read.
        """
        assert config.reading is not None
        self._base, self._config, self._reading = base, config, config.reading
        self._layers = trainable(start, base)
        self._layout = Layout(base, config.passage_tokens)
        # Sources stay apart, so that neighbours are alike and weights can be given.
        self._sources = [
            (source.weight, Groups(_asked_about(source, config), config.reading))
            for source in config.sources
        ]
        self._ahead = made_ahead(config, self.batch, _batches)
        self._sets = {
            name: Groups(_asked_about(source, config), config.reading)
            for name, source in config.evaluation.sets.items()
        }

    @property
    def turns(self) -> Turns:
        return self._base.lock

    @property
    def passages(self) -> int:
        return sum(len(groups.passages) for _, groups in self._sources)

    def parameters(self) -> dict[str, nn.Parameter]:
        return self.adapter_parameters()

    def adapter_parameters(self) -> dict[str, Any]:
        return {
            f"{path}.{side}": getattr(layer, side)
            for path, layer in self._layers.items()
            for side in ("down", "up")
        }

    def prepare(self) -> None:
        pass

    def learn(self, number: int) -> tuple[Tensor, Marks]:
        batch = self._ahead[number].to(self._base.device)
        losses, right = self._read(batch)
        return losses.mean(), _marks(batch, losses.detach(), right)

    def batch(self, step: int) -> ReadingBatch:
        """Return a step's, a function of its number alone."""
        rng = random.Random(f"{self._config.seed}/{step}")
        weights = [weight * len(groups.passages) for weight, groups in self._sources]
        drawn = rng.choices(self._sources, weights, k=self._config.batch)
        return self._layout.pack([groups.draw(rng) for _, groups in drawn])

    def measure(self, thorough: bool) -> Measured:
        """Return marks of questions that see their passage alone, among others, and not at all.

        There the answer that is due is that the text does not say.
        """
        with torch.no_grad():
            return {name: self._examine(groups) for name, groups in self._sets.items()}

    def _examine(self, groups: Groups) -> dict[str, dict[str, float]]:
        rng = random.Random(0)
        count = min(len(groups.passages), self._config.evaluation.questions)
        examined = [groups.examine(n, rng) for n in range(count)]
        found: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
        for n in range(0, count, _EXAMINED):
            part = examined[n : n + _EXAMINED]
            batch = self._layout.pack([group for group, _ in part]).to(self._base.device)
            arms = [
                arm
                for group, arms in part
                for ask, arm in zip(group.asks, arms, strict=True)
                if self._layout.fits(ask)
            ]
            losses, right = self._read(batch)
            answer = batch.first[batch.labels != NOTHING].cumsum(0) - 1
            for number, arm in enumerate(arms):
                mine = answer == number
                found[arm].append(
                    {
                        "loss": float(losses[mine].mean()),
                        "first": float(right[mine][0]),
                        "whole": float(right[mine].all()),
                    }
                )
        return {
            arm: {key: round(sum(m[key] for m in marks) / len(marks), 4) for key in marks[0]}
            for arm, marks in found.items()
            if marks
        }

    def write_checkpoint(self, folder: Path) -> None:
        """Write what `model: reader:` takes."""
        write_task_adapter(folder, self._layers, self._base, passages_apart=True)

    def _read(self, batch: ReadingBatch) -> tuple[Tensor, Tensor]:
        """Return each due token's loss, and whether it is the likeliest."""
        reader = Adapter("reader in training", self._layers, self._base.fingerprint)
        with worn(self._base, stack(self._base.model, [[reader]] * len(batch.ids))) as model:
            states = batch.states(model.base_model)
        chosen = batch.labels != NOTHING
        head: Any = self._base.model.get_output_embeddings()
        logits, due = head(states[chosen]).float(), batch.labels[chosen]
        return F.cross_entropy(logits, due, reduction="none"), logits.argmax(-1) == due


def _batches(config: TrainConfig) -> Callable[[int], ReadingBatch]:
    base = BaseModel.from_checkpoint(config.model, config.dtype, config.device)
    return ReaderCourse(base, {}, config).batch


def _marks(batch: ReadingBatch, losses: Tensor, right: Tensor) -> Marks:
    first = batch.first[batch.labels != NOTHING]
    wrong = torch.zeros(int(first.sum()), device=first.device)
    wrong.index_add_(0, first.cumsum(0) - 1, (~right).float())
    return Marks(
        float(losses.mean()),
        float(right[first].float().mean()),
        float((wrong == 0).float().mean()),
    )


def _asked_about(source: SourceConfig, config: TrainConfig) -> list[Passage]:
    passages = read_passages(source.path, int(config.passage_tokens * 0.7), source.part)
    return [passage for passage in passages if own_questions(passage, 1, random.Random(0))]


class Groups:
    """Passages with their neighbours, and what is asked of them."""

    def __init__(self, passages: Sequence[Passage], config: ReadingConfig) -> None:
        self.passages, self._config = passages, config
        self._near = nearest([passage.text for passage in passages], config.neighbours)

    def draw(self, rng: random.Random) -> Group:
        """Return a group at random, with the questions of all its passages."""
        config = self._config
        members = self._members(rng.randrange(len(self.passages)), rng)
        asks = []
        for n, passage in enumerate(members):
            for question, answer in own_questions(passage, config.questions, rng):
                chance = rng.random()
                if chance < config.asking:
                    asks.append(Ask(ASK + answer, question, [n]))
                else:
                    share = (chance - config.asking) / (1 - config.asking)
                    arm = "absent" if share < config.absent else "alone"
                    if config.absent <= share < config.absent + config.among:
                        arm = "among"
                    asks += _seeing(arm, n, question, answer, members, rng)
        return Group([passage.text for passage in members], asks)

    def examine(self, number: int, rng: random.Random) -> tuple[Group, list[str]]:
        """Return a passage's group with one question of its own under each of `ARMS`, and which."""
        members = self._members(number, rng)
        ((question, answer),) = own_questions(members[0], 1, rng)
        asked = {arm: _seeing(arm, 0, question, answer, members, rng) for arm in ARMS}
        asks = [ask for found in asked.values() for ask in found]
        arms = [arm for arm, found in asked.items() for _ in found]
        return Group([passage.text for passage in members], asks), arms

    def _members(self, number: int, rng: random.Random) -> list[Passage]:
        near = self._near[number]
        chosen = rng.sample(near, min(self._config.passages - 1, len(near)))
        return [self.passages[n] for n in [number, *chosen]]


def _seeing(
    arm: str,
    own: int,
    question: str,
    answer: str,
    members: Sequence[Passage],
    rng: random.Random,
) -> list[Ask]:
    """Return a question under one of `ARMS`.

    Not where an other holds the answer, too: nothing then tells what it says of the question.
    """
    others = [
        n
        for n, passage in enumerate(members)
        if n != own and answer.casefold() not in passage.text.casefold()
    ]
    if arm == "alone" or not others:
        return [Ask(question, answer, [own])] if arm != "absent" else []
    some = rng.sample(others, rng.randint(1, len(others)))
    if arm == "absent":
        return [Ask(question, ABSTENTION, some)]
    return [Ask(question, answer, [own, *some])]
