"""Reading lessons: what each question sees, what is due, and a whole run."""

import dataclasses
import random
from pathlib import Path

import pytest
import torch

from hybridqa.config import validate
from hybridqa.errors import ConfigError
from hybridqa.models.base import BaseModel
from hybridqa.models.generator import ABSTENTION, TorchGenerator
from hybridqa.protocols import Prompt
from hybridqa.stores.peft_folder import write_peft
from hybridqa.stores.task_adapters import load_task_adapter
from hybridqa.training.batches import NOTHING
from hybridqa.training.config import ReadingConfig, TrainConfig
from hybridqa.training.groups import Ask, Group, Layout
from hybridqa.training.neighbours import nearest
from hybridqa.training.passages import Passage
from hybridqa.training.reading import Groups, ReaderCourse
from hybridqa.training.run import Run
from hybridqa.types import LoraLayer

TEXTS = ["Tea is at four.", "The lamp weighs 840 grams and is old.", "Leave is 27 days."]


def logits(base: BaseModel, layout: Layout, *groups: Group) -> list[torch.Tensor]:
    """Return those of each question's answer, row by row."""
    batch = layout.pack(groups)
    with torch.no_grad():
        found = base.model.lm_head(batch.states(base.model.model))
    parts = []
    for row, place in batch.first.nonzero().tolist():
        count = 1
        end = base.tokenizer.eos_token_id
        while int(batch.labels[row, place + count - 1]) != end:
            count += 1
        parts.append(found[row, place : place + count])
    return parts


def test_a_question_that_sees_one_passage_is_an_ordinary_prompt(base: BaseModel) -> None:
    layout = Layout(base, passage_tokens=200)
    asks = [Ask("How heavy?", "840 grams", [1]), Ask("When is tea?", "four", [0])]

    found = logits(base, layout, Group(TEXTS, asks), Group(TEXTS[1:], [Ask("Why?", "so", [1])]))

    expected = [(ask, TEXTS[ask.seen[0]]) for ask in asks]
    expected.append((Ask("Why?", "so", [1]), TEXTS[2]))
    for (ask, text), part in zip(expected, found, strict=True):
        prompt = TorchGenerator(base).prompt_ids(Prompt(question=ask.text, passages=(text,)))
        ids = torch.tensor([prompt + base.plain_ids(ask.answer)])
        with torch.no_grad():
            alone = base.model(input_ids=ids).logits[0, len(prompt) - 1 :]
        torch.testing.assert_close(part, alone, rtol=1e-4, atol=1e-4)


def test_passages_are_seen_by_those_alone_that_are_to_see_them(base: BaseModel) -> None:
    layout = Layout(base, passage_tokens=200)
    ask = Ask("When is tea?", "four", [0, 2])
    other = [TEXTS[0], TEXTS[1].replace("lamp", "desk"), TEXTS[2]]
    third = [*TEXTS[:2], TEXTS[2].replace("27", "31")]

    (plain,), (unseen,), (seen,) = (
        logits(base, layout, Group(texts, [ask])) for texts in (TEXTS, other, third)
    )

    torch.testing.assert_close(plain, unseen, rtol=1e-4, atol=1e-4)
    assert float((plain - seen).abs().max()) > 1e-3


def test_where_others_hold_the_answer_they_are_not_shown() -> None:
    passages = [
        Passage("Tea is at four.", [("When is tea?", ["four"])]),
        Passage("Supper is at four, too.", [("When is supper?", ["four"])]),
        Passage("Tea is green.", [("What is green?", ["Tea"])]),
    ]
    groups = Groups(passages, ReadingConfig())

    for seed in range(5):
        group, arms = groups.examine(0, random.Random(seed))
        other = group.passages.index("Tea is green.")
        assert arms == ["alone", "among", "absent"]
        assert group.asks == [
            Ask("When is tea?", "four", [0]),
            Ask("When is tea?", "four", [0, other]),
            Ask("When is tea?", ABSTENTION, [other]),
        ]


def test_every_kind_of_question_is_drawn() -> None:
    passages = [
        Passage(f"Item {n} is kept in room {n * 7}.", [(f"Where is item {n}?", [f"room {n * 7}"])])
        for n in range(9)
    ]
    groups = Groups(passages, ReadingConfig(among=0.3, absent=0.3, asking=0.3))
    rng = random.Random(0)

    asks = [(ask, group) for group in (groups.draw(rng) for _ in range(40)) for ask in group.asks]

    assert any(ask.text.startswith("Write a question") for ask, _ in asks)
    assert any(ask.answer == ABSTENTION for ask, _ in asks)
    assert any(len(ask.seen) > 1 for ask, _ in asks)
    for ask, group in asks:
        if ask.answer != ABSTENTION and not ask.text.startswith("Write"):
            assert sum(ask.answer in group.passages[n] for n in ask.seen) == 1


def test_long_questions_are_left_out(base: BaseModel) -> None:
    layout = Layout(base, passage_tokens=200)
    asks = [Ask("Why? " * 40, "so", [0]), Ask("When is tea?", "four", [0])]

    batch = layout.pack([Group(TEXTS, asks)])

    assert int(batch.first.sum()) == 1
    due = batch.labels[batch.labels != NOTHING].tolist()
    assert due == [*base.plain_ids("four"), base.tokenizer.eos_token_id]


def test_neighbours_share_rare_words() -> None:
    texts = ["the mill grinds rye", "the lamp is old", "rye and barley for the mill", "an old lamp"]

    near = nearest(texts, 2)

    assert [found[0] for found in near] == [2, 3, 0, 1]
    assert all(len(found) == 2 for found in near)
    assert nearest(["alone"], 3) == [[]]


def test_a_reader_is_trained_and_can_be_worn(
    base: BaseModel, data: Path, plan: TrainConfig, tmp_path: Path
) -> None:
    reading = dataclasses.replace(
        plan,
        network=None,
        reading=ReadingConfig(passages=2, neighbours=2),
        steps=30,
        adapter_learning_rate=1e-2,
        evaluation=dataclasses.replace(plan.evaluation, every=15),
    )
    factors = torch.randn(2, 32), torch.zeros(32, 2)
    layers = {"model.layers.1.self_attn.q_proj": LoraLayer(*factors)}
    write_peft(tmp_path / "start", layers, base.name)
    start = load_task_adapter(tmp_path / "start", base.fingerprint)

    run = Run(tmp_path / "run", ReaderCourse(base, start.layers, reading), reading)
    marks = [marks for _, marks in run.train()]

    assert sum(m.loss for m in marks[-5:]) < sum(m.loss for m in marks[:5])
    trained = load_task_adapter(run.checkpoint, base.fingerprint)
    assert trained.passages_apart
    assert float(trained.layers["model.layers.1.self_attn.q_proj"].up.abs().sum()) > 0


def test_a_readers_batches_can_be_made_by_another_process(
    base: BaseModel, plan: TrainConfig, tmp_path: Path
) -> None:
    base.model.save_pretrained(tmp_path)
    base.tokenizer.save_pretrained(tmp_path)
    reading = ReadingConfig(passages=2, neighbours=2)
    plan = dataclasses.replace(plan, model=str(tmp_path), network=None, reading=reading, steps=2)
    layers = {"model.layers.1.self_attn.q_proj": LoraLayer(torch.ones(2, 32), torch.ones(32, 2))}

    losses = [
        [marks.loss for _, marks in Run(tmp_path / name, ReaderCourse(base, layers, p), p).train()]
        for name, p in (("one", plan), ("many", dataclasses.replace(plan, ahead=2, workers=1)))
    ]

    assert losses[0] == losses[1]


def test_something_is_trained() -> None:
    with pytest.raises(ConfigError, match="one of `network:`, `perceiver:`"):
        validate(TrainConfig, {"sources": [{"path": "x"}]}, "train.yaml")
