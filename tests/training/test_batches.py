"""Batches: what a branch sees, what is due, and that a step's number is all that matters."""

import dataclasses
import random

import torch

from hybridqa.models.base import BaseModel
from hybridqa.models.generator import TorchGenerator
from hybridqa.protocols import Prompt
from hybridqa.training.batches import NOTHING, Example, Lessons, Tokens, pack
from hybridqa.training.config import TrainConfig
from tests.training.conftest import PASSAGES

TEXT = "The lamp weighs 840 grams and was made in 1987."
QUESTIONS = [("How heavy is it?", "840 grams"), ("When?", "1987"), ("By whom was it made?", "Ann")]


def test_a_branch_sees_what_its_prompt_alone_would_show(base: BaseModel) -> None:
    tokens = Tokens(base, passage_tokens=200)
    chunk = tokens.chunk(TEXT)
    branches = [tokens.branch(question, answer, chunk) for question, answer in QUESTIONS]
    batch = pack(
        [
            Example("", chunk, [b for b in branches if b]),
            Example("", chunk, [b for b in branches[:1] if b]),
        ],
        [tokens.beginning] * 2,
    )

    together = base.model(
        input_ids=batch.ids, attention_mask=batch.attention, position_ids=batch.positions
    ).logits

    places = batch.first.nonzero().tolist()
    asked = [*QUESTIONS, QUESTIONS[0]]
    assert len(places) == len(asked)
    for (row, place), (question, answer) in zip(places, asked, strict=True):
        prompt = TorchGenerator(base).prompt_ids(Prompt(question=question, max_tokens=1))
        due = base.plain_ids(" " + answer)
        if answer == "1987":
            due = base.plain_ids(" 1987")
        ids = torch.tensor([prompt + due])
        alone = base.model(input_ids=ids).logits[0, len(prompt) - 1 :]
        torch.testing.assert_close(
            together[row, place : place + len(due) + 1], alone, rtol=1e-4, atol=1e-4
        )
        labels = batch.labels[row, place : place + len(due) + 1].tolist()
        assert labels == [*due, base.tokenizer.eos_token_id]


def test_a_due_token_is_looked_up_before_each_of_its_places(base: BaseModel) -> None:
    tokens = Tokens(base, passage_tokens=200)
    chunk = tokens.chunk("It is 12 here, and 12 there.")
    branch = tokens.branch("How many?", "12", chunk)
    assert branch is not None

    batch = pack([Example("", chunk, [branch])], [tokens.beginning])

    for (row, place), found in zip(batch.lookups.tolist(), batch.found, strict=True):
        due = int(batch.labels[row, place])
        assert due != NOTHING
        assert [chunk[n + 1] for n in found.nonzero()[:, 0].tolist()] == [due, due]
    assert len(batch.lookups) == len(" 12")


def test_foreign_questions_are_not_looked_up(base: BaseModel) -> None:
    tokens = Tokens(base, passage_tokens=200)
    chunk = tokens.chunk(TEXT)
    branch = tokens.branch("When?", "1987", chunk, foreign=True)
    assert branch is not None

    batch = pack([Example("", chunk, [branch])], [tokens.beginning])

    assert len(batch.lookups) == 0
    assert int(batch.foreign.sum()) == len(branch.answer)


def test_another_passage_is_read_on_in(base: BaseModel, plan: TrainConfig) -> None:
    tasks = dataclasses.replace(plan.tasks, foreign=0.0, texts=1.0)
    batch = Lessons(base, dataclasses.replace(plan, tasks=tasks))[0]

    for row, foreign in enumerate(batch.foreign):
        due = batch.labels[row, foreign].tolist()
        if due:
            assert base.tokenizer.decode(due) in " ".join(text for text, _, _ in PASSAGES)
    assert batch.foreign.any()
    assert not batch.foreign.all(-1).any()


def test_of_a_short_passage_there_is_nothing_to_read_on_in(base: BaseModel) -> None:
    assert Tokens(base, passage_tokens=200).excerpt("Too short.", random.Random(0)) is None


def test_questions_that_are_long_are_left_out(base: BaseModel) -> None:
    tokens = Tokens(base, passage_tokens=200)

    assert tokens.branch("Why? " * 40, "so", tokens.chunk("so")) is None


def test_a_batch_depends_on_its_number_alone(base: BaseModel, plan: TrainConfig) -> None:
    forwards = [Lessons(base, plan)[step] for step in range(3)]
    lessons = Lessons(base, plan)

    for step in (2, 0, 1):
        again = lessons[step]
        for name, value in vars(forwards[step]).items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(value, getattr(again, name)), name
            else:
                assert value == getattr(again, name), name


def test_questions_behind_a_passage_see_it_as_in_a_prompt_of_their_own(base: BaseModel) -> None:
    tokens = Tokens(base, passage_tokens=200)
    chunk = tokens.chunk(TEXT)
    found = [tokens.branch(question, answer, chunk) for question, answer in QUESTIONS[::2]]
    example = Example(TEXT, chunk, [branch for branch in found if branch])
    batch = pack([example, example], [tokens.opening(TEXT), tokens.beginning])

    together = base.model(
        input_ids=batch.ids, attention_mask=batch.attention, position_ids=batch.positions
    ).logits

    for row, place in batch.first.nonzero().tolist():
        question, answer = QUESTIONS[::2][int(batch.first[row, :place].sum())]
        passages = () if row else (TEXT,)
        asked = Prompt(question=question, passages=passages, max_tokens=1)
        ids = TorchGenerator(base).prompt_ids(asked) + base.plain_ids(" " + answer)
        alone = base.model(input_ids=torch.tensor([ids])).logits[
            0, -len(base.plain_ids(" " + answer)) - 1
        ]
        torch.testing.assert_close(together[row, place], alone, rtol=1e-4, atol=1e-4)
