"""Evaluation while training: teacher-forced answers on held-out passages, with the controls."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict

import torch

from hybridqa.internalize.lessons import answer_logits
from hybridqa.training.batches import Batch, Example, Tokens, pack
from hybridqa.training.config import TrainConfig
from hybridqa.training.learner import Learner
from hybridqa.training.losses import Marks, answer_loss, span_loss
from hybridqa.training.passages import own_questions, read_passages

_BATCH = 16


class HeldOut:
    """Questions of held-out sets, one a passage."""

    def __init__(self, learner: Learner, config: TrainConfig) -> None:
        """Read the sets.

        Raises:
            ConfigError: One cannot be read.
        """
        self._tokens = Tokens(learner.base, config.passage_tokens)
        self._sets: dict[str, list[tuple[str, str, str]]] = {}
        for name, source in config.evaluation.sets.items():
            rng = random.Random(name)
            passages = read_passages(source.path, int(config.passage_tokens * 0.7), source.part)
            rng.shuffle(passages)
            asked = [(p.text, *q) for p in passages for q in own_questions(p, 1, rng)]
            # Like lengths together; one passage's neighbour is its wrong one.
            self._sets[name] = sorted(asked[: config.evaluation.questions], key=lambda q: len(q[0]))

    def measure(self, learner: Learner, context: bool) -> dict[str, dict[str, dict[str, float]]]:
        """Return marks by set and arm; `context` only if asked for, as it changes little."""
        with torch.no_grad():
            return {
                name: self._measure(learner, asked, context) for name, asked in self._sets.items()
            }

    def _measure(
        self, learner: Learner, asked: Sequence[tuple[str, str, str]], context: bool
    ) -> dict[str, dict[str, float]]:
        marks: dict[str, list[Marks]] = {}
        for part in (asked[n : n + _BATCH] for n in range(0, len(asked), _BATCH)):
            chunks = [self._tokens.chunk(text) for text, _, _ in part]
            examples = []
            for chunk, (text, question, answer) in zip(chunks, part, strict=True):
                branch = self._tokens.branch(question, answer, chunk)
                examples.append(Example(text, chunk, [branch] if branch else []))
            examples = [example for example in examples if example.branches]
            batch = pack(examples, [self._tokens.beginning] * len(examples)).to(learner.base.device)
            for arm, found in _arms(learner, batch).items():
                marks.setdefault(arm, []).append(found)
            if context:
                marks.setdefault("context", []).append(self._in_context(learner, part, examples))
        return {arm: _mean(found) for arm, found in marks.items()}

    def _in_context(
        self, learner: Learner, asked: Sequence[tuple[str, str, str]], examples: Sequence[Example]
    ) -> Marks:
        prompts = [self._tokens.prompt(question, text) for text, question, _ in asked]
        answers = [example.branches[0].answer for example in examples]
        logits = answer_logits(learner.base, [learner.task_adapter], prompts, answers)
        losses, firsts, wholes = [], [], []
        for found, answer in zip(logits, answers, strict=True):
            due = torch.tensor(answer, device=found.device)
            right = found.argmax(-1) == due
            losses.append(float(torch.nn.functional.cross_entropy(found, due)))
            firsts.append(float(right[0]))
            wholes.append(float(right.all()))
        n = len(answers)
        return Marks(sum(losses) / n, sum(firsts) / n, sum(wholes) / n)


def _arms(learner: Learner, batch: Batch) -> dict[str, Marks]:
    written = learner.write(batch)
    worn = keys, values = learner.together(written, 1)
    wrong = ([k.roll(1, 0) for k in keys], [v.roll(1, 0) for v in values])
    found = {}
    for arm, memory in (("right", worn), ("wrong", wrong), ("none", None)):
        states, asked = learner.ask(batch, memory)
        _, marks = answer_loss(learner, batch, states, 1.0)
        found[arm] = Marks(*marks)
        if arm == "right":
            place = span_loss(learner, batch, written, asked, 1.0)[1]
            found[arm] = Marks(*marks, place=place)
    return found


def _mean(marks: Sequence[Marks]) -> dict[str, float]:
    keys = ("loss", "first", "whole", "place")
    rows = [asdict(mark) for mark in marks]
    return {key: round(sum(row[key] for row in rows) / len(rows), 4) for key in keys}
