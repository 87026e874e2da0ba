"""Losses, gradients and whole runs on a tiny model."""

import dataclasses
import itertools
import json
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hybridqa.errors import ConfigError
from hybridqa.internalize.associative import AssociativeInternalizer
from hybridqa.internalize.compress import compress
from hybridqa.models.base import BaseModel
from hybridqa.training.associative import AssociativeLearner
from hybridqa.training.batches import Lessons
from hybridqa.training.config import SourceConfig, TrainConfig
from hybridqa.training.internalizing import HypernetworkCourse
from hybridqa.training.losses import answer_loss, foreign_loss, learn, soft_loss
from hybridqa.training.run import Run, schedule
from hybridqa.types import Chunk, Document
from tests.training.conftest import check_gradients


def finished(
    folder: Path, base: BaseModel, plan: TrainConfig, steps: int | None = None, **changed: float
) -> Run:
    """Train for some steps, or to the end."""
    plan = dataclasses.replace(plan, **changed)
    learner = AssociativeLearner.start(Path(plan.start), base, plan.network, seed=0)
    run = Run(folder, HypernetworkCourse(learner, plan), plan)
    for number, _ in run.train():
        if number == steps:
            run.save()
            break
    return run


def logged(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_everything_that_is_to_be_trained_gets_a_gradient(
    base: BaseModel, plan: TrainConfig, learner: AssociativeLearner
) -> None:
    marks = check_gradients(learner, base, plan)

    assert marks.loss > 0


def test_a_new_tower_changes_nothing_at_first(
    base: BaseModel, plan: TrainConfig, start: Path
) -> None:
    lessons = Lessons(base, plan)[0]
    bare = dataclasses.replace(plan.network, tower_first=0, tower_last=0)
    written = [
        AssociativeLearner.start(start, base, shape, seed=0).write(lessons)
        for shape in (plan.network, bare)
    ]

    for one, other in zip(*[keys + values for keys, values in written], strict=True):
        torch.testing.assert_close(one, other)


def test_a_tower_can_be_left_out_again(
    base: BaseModel, plan: TrainConfig, start: Path, tmp_path: Path
) -> None:
    run = finished(tmp_path / "run", base, plan)
    bare = dataclasses.replace(plan.network, tower_first=0, tower_last=0)

    written = AssociativeLearner.start(run.checkpoint, base, bare, seed=0).write(
        Lessons(base, plan)[0]
    )

    assert all(bool(values.isfinite().all()) for values in written[1])
    assert any(bool(values.any()) for values in written[1])


def test_a_memory_of_nothing_changes_no_foreign_answer(
    base: BaseModel, plan: TrainConfig, learner: AssociativeLearner
) -> None:
    batch = next(b for b in map(Lessons(base, plan).__getitem__, range(9)) if b.foreign.any())

    with torch.no_grad():
        keys, values = learner.write(batch)
        silent, _ = learner.ask(batch, (keys, [torch.zeros_like(v) for v in values]))
        loud, _ = learner.ask(batch, (keys, values))

    assert float(foreign_loss(learner, batch, silent)) == pytest.approx(0, abs=1e-5)
    assert float(foreign_loss(learner, batch, loud)) > 1e-3


def test_foreign_questions_are_no_part_of_the_answers(
    base: BaseModel, plan: TrainConfig, learner: AssociativeLearner
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
    shape = dataclasses.replace(plan.network, rank=3)
    learner = AssociativeLearner.start(start, base, shape, seed=0)
    whole = learner.write(lessons)
    small = learner.together(whole, 1)

    for rows in zip(*whole, *small, strict=True):
        for key, value, down, up in zip(*rows, strict=True):
            due, _ = compress(key.detach(), value.detach().T, 3)
            assert down.shape[0] == 3
            torch.testing.assert_close(up.T @ down, due.up @ due.down, rtol=0.02, atol=0.02)
    assert all(keys.requires_grad for keys in small[0])


def test_updates_worn_together_add_up(
    base: BaseModel, plan: TrainConfig, learner: AssociativeLearner
) -> None:
    batch = Lessons(base, plan)[0]
    with torch.no_grad():
        written = learner.write(batch)
        worn = learner.together(written, 3)

    for rows in zip(*written, *worn, strict=True):
        own, found = ((values.mT @ keys) for keys, values in (rows[:2], rows[2:]))
        torch.testing.assert_close(found, own + own.roll(-1, 0) + own.roll(-2, 0))


def test_some_batches_wear_updates_together(base: BaseModel, plan: TrainConfig) -> None:
    tasks = dataclasses.replace(plan.tasks, several=0.5, at_once=3)
    lessons = Lessons(base, dataclasses.replace(plan, tasks=tasks))

    assert {lessons[step].worn for step in range(20)} == {1, 2, 3}


def test_batches_made_by_other_processes_are_the_same(
    base: BaseModel, plan: TrainConfig, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    base.model.save_pretrained(folder)
    base.tokenizer.save_pretrained(folder)
    by_others = dataclasses.replace(plan, model=str(folder), ahead=2, workers=2)

    finished(tmp_path / "one", base, plan)
    finished(tmp_path / "many", base, by_others)

    one, many = (load_file(tmp_path / n / "state.safetensors") for n in ("one", "many"))
    assert all(torch.equal(one[name], many[name]) for name in one)


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


def test_what_is_frozen_stays_and_the_rest_learns(
    base: BaseModel, plan: TrainConfig, learner: AssociativeLearner, tmp_path: Path
) -> None:
    plan = dataclasses.replace(plan, frozen=["tower.*", "task_adapter.*.down"])
    before = {name: p.detach().clone() for name, p in learner.parameters().items()}

    finished(tmp_path / "run", base, plan, steps=2)
    for _ in Run(tmp_path / "run", HypernetworkCourse(learner, plan), plan).train():
        pass

    learned = {name for name, p in learner.parameters().items() if not torch.equal(p, before[name])}
    frozen = {n for n in before if n.startswith("tower.") or (n.startswith("task") and "down" in n)}
    assert frozen
    assert not learned & frozen
    assert {name.partition(".")[0] for name in learned} == {"network", "task_adapter"}


def test_a_pattern_of_no_parameter_is_refused(
    base: BaseModel, plan: TrainConfig, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"`frozen:` has `towers\.\*`, which no parameter"):
        finished(tmp_path / "run", base, dataclasses.replace(plan, frozen=["towers.*"]))


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
        AssociativeLearner.start(start, base, shape, seed=0)


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


def test_a_fresh_network_keeps_what_was_counted_and_nothing_that_was_learned(
    base: BaseModel, plan: TrainConfig, start: Path, learner: AssociativeLearner
) -> None:
    shape = dataclasses.replace(plan.network, fresh=True)

    fresh = AssociativeLearner.start(start, base, shape, seed=0).network
    again = AssociativeLearner.start(start, base, shape, seed=0).network

    assert dict(fresh.named_buffers()).keys() >= {"whiten_basis", "key_scale"}
    for name, buffer in learner.network.named_buffers():
        torch.testing.assert_close(fresh.get_buffer(name), buffer)
    assert not torch.allclose(fresh.key[0], learner.network.key[0])
    for name, parameter in again.named_parameters():
        torch.testing.assert_close(fresh.get_parameter(name), parameter)


def test_a_model_with_the_passages_shows_how(
    base: BaseModel, plan: TrainConfig, learner: AssociativeLearner
) -> None:
    plan = dataclasses.replace(plan, losses=dataclasses.replace(plan.losses, soft=1.0))
    batch = next(b for b in map(Lessons(base, plan).__getitem__, range(9)) if b.foreign.any())
    assert batch.shown is not None

    with torch.no_grad():
        shown, _ = learner.ask(batch.shown, None, learner.teacher)
        states, _ = learner.ask(batch, learner.write(batch))
        as_shown = float(soft_loss(learner, batch.shown, batch.shown, shown))
        otherwise = float(soft_loss(learner, batch, batch.shown, states))
        total, _ = learn(learner, batch, plan.losses)
        without, _ = learn(learner, dataclasses.replace(batch, shown=None), plan.losses)

    assert 0 < as_shown < otherwise
    assert float(total - without) == pytest.approx(otherwise, rel=1e-3)


def test_who_shows_does_not_learn(base: BaseModel, plan: TrainConfig, tmp_path: Path) -> None:
    plan = dataclasses.replace(plan, losses=dataclasses.replace(plan.losses, soft=1.0))
    learner = AssociativeLearner.start(Path(plan.start), base, plan.network, seed=0)
    before = {p: x.up.clone() for p, x in learner.teacher.layers.items()}

    run = Run(tmp_path / "run", HypernetworkCourse(learner, plan), plan)
    for _ in run.train():
        pass

    for path, layer in learner.teacher.layers.items():
        assert torch.equal(layer.up, before[path])
    assert not torch.equal(learner.task_adapter.layers[path].up, before[path])
