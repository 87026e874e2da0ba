"""Lessons of a locator, and whole runs."""

import dataclasses
import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hybridqa.config import validate
from hybridqa.errors import ConfigError
from hybridqa.internalize.locator import Tokenized, TorchLocator, load_encoder
from hybridqa.protocols import Look
from hybridqa.testing import tiny_encoder
from hybridqa.training.config import TrainConfig
from hybridqa.training.locating import LocatorCourse
from hybridqa.training.passages import Passage, read_passages
from hybridqa.training.run import Run
from hybridqa.training.spans import token_spans
from hybridqa.types import Chunk


@pytest.fixture
def plan(settings: dict[str, object], tmp_path: Path) -> TrainConfig:
    return validate(
        TrainConfig,
        settings
        | {
            "device": "cpu",
            "locator": {
                "encoder": str(tiny_encoder(tmp_path / "encoder")),
                "lower": 1,
                "width": 16,
            },
            "tasks": {"questions": 2, "cloze": 0, "facts": 0.0, "foreign": 1.0},
        },
        "test",
    )


def finished(folder: Path, plan: TrainConfig, steps: int | None = None) -> Run:
    run = Run(folder, LocatorCourse(plan), plan)
    for number, _ in run.train():
        if number == steps:
            run.save()
            break
    return run


def test_lessons_made_by_another_process_are_the_same(plan: TrainConfig, tmp_path: Path) -> None:
    finished(tmp_path / "one", plan)
    finished(tmp_path / "many", dataclasses.replace(plan, ahead=2, workers=1))

    one, many = (load_file(tmp_path / n / "state.safetensors") for n in ("one", "many"))
    assert all(torch.equal(one[name], many[name]) for name in one)


def test_all_spans_of_whole_words_are_right(tmp_path: Path) -> None:
    _, tokenizer, _ = load_encoder(str(tiny_encoder(tmp_path)))
    text = "Tea at 4, tea at 44, and at 4."
    piece = Tokenized(tokenizer, text)

    found = token_spans(piece, text, "at 4", 24)

    assert [text[piece.spans[i][0] : piece.spans[j][1]] for i, j in found] == ["at 4", "at 4"]
    assert token_spans(piece, text, "coffee", 24) == []
    assert token_spans(piece, text, "a", 24) == []
    assert token_spans(piece, text, "Tea at 4", 3) == []  # longer than spans may be


def test_a_passage_is_asked_its_own_questions_and_a_neighbours(
    plan: TrainConfig, data: Path
) -> None:
    course = LocatorCourse(plan)
    passages = read_passages(data, 100)

    lesson = course.lessons.lesson(passages[0], passages[1:3], random.Random(0))

    (_, spans), (_, nowhere) = lesson.asked
    assert [passages[0].text[lesson.piece.spans[i][0] :][:7] for i, _ in spans] == ["at four"]
    assert nowhere == ()


def test_what_a_passage_no_longer_says_is_found_nowhere(plan: TrainConfig) -> None:
    tasks = dataclasses.replace(plan.tasks, foreign=0.0, cut=1.0, altered=1.0)
    course = LocatorCourse(dataclasses.replace(plan, tasks=tasks))
    rest = "The kettle is in the cellar, by the stairs, where it has been since the day on which "
    passage = Passage(f"Tea is at four. {rest}we moved in.", [("When is tea on day 7?", ["four"])])

    lesson = course.lessons.lesson(passage, (), random.Random(0))

    questions = [course._tokenizer.decode(tokens) for tokens, _ in lesson.asked]
    assert [spans for _, spans in lesson.asked] == [(), ()]
    assert "7" in questions[0]
    assert "7" not in questions[1]
    assert "four" not in course._tokenizer.decode(lesson.piece.ids).replace(" ", "")


def test_passages_with_few_questions_are_asked_clozes(plan: TrainConfig, data: Path) -> None:
    tasks = dataclasses.replace(plan.tasks, foreign=0.0, cloze=1)
    course = LocatorCourse(dataclasses.replace(plan, tasks=tasks))
    (passage, *_) = read_passages(data, 100)

    asked = course.lessons.lesson(passage, (), random.Random(0)).asked

    assert len(asked) == 2
    assert all(spans for _, spans in asked)


def test_a_step_is_a_function_of_its_number(plan: TrainConfig) -> None:
    course = LocatorCourse(plan)
    course.prepare()

    losses = [float(course.learn(step)[0].detach()) for step in (3, 5, 3)]

    assert losses[0] == losses[2] != losses[1]


def test_everything_but_the_embeddings_gets_a_gradient(plan: TrainConfig) -> None:
    course = LocatorCourse(plan)
    course.learn(0)[0].backward()

    assert not any("embeddings" in name for name in course.parameters())
    for name, parameter in course.parameters().items():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_what_a_run_learned_is_found(plan: TrainConfig, tmp_path: Path, data: Path) -> None:
    longer = dataclasses.replace(
        plan, steps=150, learning_rate=1e-2, adapter_learning_rate=3e-3, average=0.5
    )
    run = finished(tmp_path / "run", longer)

    locator = TorchLocator.from_checkpoint(run.checkpoint)
    passages = read_passages(data, 100)
    for passage in passages[:4]:
        ((question, (answer,)),) = passage.questions
        chunk = Chunk(
            document_id="d", content_hash="h", start=0, end=len(passage.text), text=passage.text
        )
        found = locator.locate([Look(question, locator.keep([chunk]))])[0][0]
        assert passage.text[found.start : found.end] == answer
        assert found.share > found.nowhere
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    sets = [row["sets"]["own"] for row in rows if row["kind"] == "evaluation"]
    assert sets[-1]["right"]["whole"] > sets[0]["right"]["whole"]
    assert sets[-1]["absent"]["loss"] < sets[0]["absent"]["loss"]


def test_a_run_that_was_cut_short_ends_as_one_that_was_not(
    plan: TrainConfig, tmp_path: Path
) -> None:
    finished(tmp_path / "whole", plan)
    finished(tmp_path / "cut", plan, steps=2)
    finished(tmp_path / "cut", plan)

    file = "checkpoint/model.safetensors"
    assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "cut" / file).read_bytes()


def test_one_thing_is_trained_at_a_time(data: Path) -> None:
    told = {"sources": [{"path": str(data)}], "locator": {}, "reading": {}}

    with pytest.raises(ConfigError, match="one of `network:`, `perceiver:`"):
        validate(TrainConfig, told, "test")
