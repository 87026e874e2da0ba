"""Losses, gradients and whole runs on a tiny model."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from hybridqa.errors import ConfigError
from hybridqa.internalize.associative import AssociativeInternalizer
from hybridqa.models.base import BaseModel
from hybridqa.training.associative import AssociativeCourse
from hybridqa.training.batches import Lessons
from hybridqa.training.config import TrainConfig
from hybridqa.training.learner import Learner
from hybridqa.training.losses import answer_loss, foreign_loss, learn
from hybridqa.training.run import Run
from hybridqa.types import Chunk, Document


def finished(folder: Path, base: BaseModel, plan: TrainConfig, steps: int | None = None) -> Run:
    """Train for some steps, or to the end."""
    learner = Learner.start(Path(plan.start), base, plan.network, seed=0)
    run = Run(folder, AssociativeCourse(learner, plan), plan)
    for number, _ in run.train():
        if number == steps:
            run.save()
            break
    return run


def logged(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_everything_that_is_to_be_trained_gets_a_gradient(
    base: BaseModel, plan: TrainConfig, learner: Learner
) -> None:
    with torch.no_grad():
        for parameter in learner.parameters().values():  # what is new is zero at first
            parameter += 0.01 * torch.randn(parameter.shape)

    loss, marks = learn(learner, Lessons(base, plan)[0], plan.losses)
    loss.backward()

    for name, parameter in learner.parameters().items():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().sum()) > 0, name
    assert marks.loss > 0


def test_a_new_tower_changes_nothing_at_first(
    base: BaseModel, plan: TrainConfig, start: Path
) -> None:
    lessons = Lessons(base, plan)[0]
    bare = dataclasses.replace(plan.network, tower_first=0, tower_last=0)
    written = [
        Learner.start(start, base, shape, seed=0).write(lessons) for shape in (plan.network, bare)
    ]

    for one, other in zip(*[keys + values for keys, values in written], strict=True):
        torch.testing.assert_close(one, other)


def test_a_memory_of_nothing_changes_no_foreign_answer(
    base: BaseModel, plan: TrainConfig, learner: Learner
) -> None:
    batch = next(b for b in map(Lessons(base, plan).__getitem__, range(9)) if b.foreign.any())

    with torch.no_grad():
        keys, values = learner.write(batch)
        silent, _ = learner.ask(batch, (keys, [torch.zeros_like(v) for v in values]))
        loud, _ = learner.ask(batch, (keys, values))

    assert float(foreign_loss(learner, batch, silent)) == pytest.approx(0, abs=1e-5)
    assert float(foreign_loss(learner, batch, loud)) > 1e-3


def test_foreign_questions_are_no_part_of_the_answers(
    base: BaseModel, plan: TrainConfig, learner: Learner
) -> None:
    batch = next(b for b in map(Lessons(base, plan).__getitem__, range(9)) if b.foreign.any())
    labels = torch.where(batch.foreign, (batch.labels + 1) % 10, batch.labels)

    with torch.no_grad():
        states, _ = learner.ask(batch, None)
    same = [
        float(answer_loss(learner, dataclasses.replace(batch, labels=due), states, 1.0)[0])
        for due in (batch.labels, labels)
    ]

    assert same[0] == same[1]


def test_training_lowers_the_loss(base: BaseModel, plan: TrainConfig, tmp_path: Path) -> None:
    longer = dataclasses.replace(plan, steps=120, learning_rate=1e-2, adapter_learning_rate=1e-2)
    finished(tmp_path / "run", base, longer)

    losses = [row["loss"] for row in logged(tmp_path / "run") if row["kind"] == "train"]
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])  # type: ignore[arg-type,type-var]


def test_a_run_that_was_cut_short_ends_as_one_that_was_not(
    base: BaseModel, plan: TrainConfig, tmp_path: Path
) -> None:
    whole = finished(tmp_path / "whole", base, plan)
    finished(tmp_path / "cut", base, plan, steps=2)
    rest = finished(tmp_path / "cut", base, plan)

    assert (whole.step, rest.step) == (4, 4)
    for file in ("checkpoint/model.safetensors", "checkpoint/tower/adapter_model.safetensors"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "cut" / file).read_bytes()


def test_a_state_of_another_shape_is_refused(
    base: BaseModel, plan: TrainConfig, tmp_path: Path
) -> None:
    finished(tmp_path / "run", base, plan, steps=2)
    other = dataclasses.replace(plan, network=dataclasses.replace(plan.network, tower_rank=3))

    with pytest.raises(ConfigError, match="another shape"):
        finished(tmp_path / "run", base, other)


def test_target_layers_that_the_start_lacks_are_refused(
    base: BaseModel, plan: TrainConfig, start: Path
) -> None:
    shape = dataclasses.replace(plan.network, first_layer=0)

    with pytest.raises(ConfigError, match="target layers 0 to 3"):
        Learner.start(start, base, shape, seed=0)


def test_what_a_run_leaves_internalizes_documents(
    base: BaseModel, plan: TrainConfig, tmp_path: Path
) -> None:
    run = finished(tmp_path / "run", base, plan)

    made_by = AssociativeInternalizer.from_checkpoint(
        run.checkpoint, base, rank=8, max_rank=8, max_chunks=4
    )
    text = "The lamp weighs 840 grams."
    document = Document(id="d", text=text, title="", source="")
    chunk = Chunk(
        document_id="d", content_hash=document.content_hash, start=0, end=len(text), text=text
    )
    made = made_by.internalize(document, [chunk])

    assert set(made.adapter.layers) == {f"model.layers.{n}.mlp.down_proj" for n in (2, 3)}
    assert all(float(layer.up.norm()) > 0 for layer in made.adapter.layers.values())
