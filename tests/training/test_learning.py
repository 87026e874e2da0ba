"""Losses, gradients and whole runs on a tiny model."""

import dataclasses
import itertools
import json
import time
from pathlib import Path

import pytest
import torch

from hybridqa.errors import ConfigError
from hybridqa.internalize.associative import AssociativeInternalizer
from hybridqa.internalize.compress import compress
from hybridqa.models.base import BaseModel
from hybridqa.training.associative import AssociativeCourse
from hybridqa.training.batches import Lessons
from hybridqa.training.config import SourceConfig, TrainConfig
from hybridqa.training.learner import Learner
from hybridqa.training.losses import answer_loss, foreign_loss, learn
from hybridqa.training.run import Run, schedule
from hybridqa.types import Chunk, Document


def finished(
    folder: Path, base: BaseModel, plan: TrainConfig, steps: int | None = None, **changed: float
) -> Run:
    """Train for some steps, or to the end."""
    plan = dataclasses.replace(plan, **changed)
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


def test_updates_are_compressed_in_training_as_they_are_afterwards(
    base: BaseModel, plan: TrainConfig, start: Path
) -> None:
    lessons = Lessons(base, plan)[0]
    whole, small = (
        Learner.start(start, base, dataclasses.replace(plan.network, rank=rank), seed=0).write(
            lessons
        )
        for rank in (None, 3)
    )

    for keys, values, learned in zip(*whole, small[1], strict=True):
        for key, value, found in zip(keys, values, learned, strict=True):
            due, _ = compress(key.detach(), value.detach().T, 3)
            torch.testing.assert_close(found.T @ key, due.up @ due.down, rtol=0.02, atol=0.02)
    assert all(values.requires_grad for values in small[1])


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


def test_batches_made_ahead_teach_the_same(
    base: BaseModel, plan: TrainConfig, tmp_path: Path
) -> None:
    finished(tmp_path / "alone", base, plan)
    finished(tmp_path / "helped", base, plan, ahead=2)

    ends = [(tmp_path / run / "checkpoint/model.safetensors") for run in ("alone", "helped")]
    assert ends[0].read_bytes() == ends[1].read_bytes()


def test_a_run_ends_when_its_time_is_over(
    base: BaseModel, plan: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))  # a second a look
    longer = dataclasses.replace(plan, steps=10**6, minutes=1.0)

    run = finished(tmp_path / "run", base, longer)

    rows = logged(tmp_path / "run")
    assert 1 <= run.step < 60
    assert [row["kind"] for row in rows[-2:]] == ["train", "evaluation"]
    assert (run.checkpoint / "model.safetensors").exists()
    again = finished(tmp_path / "run", base, longer)
    assert again.step == run.step


def test_the_learning_rate_rises_stays_and_falls(plan: TrainConfig) -> None:
    plan = dataclasses.replace(plan, steps=100, warmup=10, decay=0.5)

    rates = [schedule(step, plan, step / 100) for step in range(101)]

    assert rates[:11] == pytest.approx([*(n / 10 for n in range(1, 11)), 1.0])
    assert rates[50] == 1.0
    assert rates[75] == pytest.approx(0.5)
    assert rates[100] == 0.0
    assert schedule(50, plan, 0.9) == pytest.approx(0.2)  # time runs out before the steps do


@pytest.mark.parametrize("empty", ["", "none"])
def test_a_source_without_passages_is_refused(
    base: BaseModel, plan: TrainConfig, tmp_path: Path, empty: str
) -> None:
    path = tmp_path / "empty"
    path.mkdir() if empty else path.write_text("")
    sources = [*plan.sources, SourceConfig(path=str(path))]

    with pytest.raises(ConfigError, match=r"`.*empty` has no passages"):
        Lessons(base, dataclasses.replace(plan, sources=sources))


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
