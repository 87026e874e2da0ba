"""The Perceiver hypernetwork learns by the same lessons, and what it leaves internalizes."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from hybridqa.config import validate
from hybridqa.errors import ConfigError
from hybridqa.internalize.associative import TASK_ADAPTER
from hybridqa.internalize.doc_to_lora import PerceiverInternalizer
from hybridqa.models.base import BaseModel
from hybridqa.training.batches import Lessons
from hybridqa.training.config import TrainConfig
from hybridqa.training.internalizing import HypernetworkCourse
from hybridqa.training.perceiver import PerceiverLearner
from hybridqa.training.run import Run
from hybridqa.types import Chunk, Document
from hybridqa.wiring.models import EMBEDDED_CHECKPOINTS
from hybridqa.wiring.training import perceivers_task_adapter
from tests.training.conftest import check_gradients

SHAPE = {
    "first_layer": 1,
    "last_layer": 3,
    "encoder_blocks": 2,
    "rank": 2,
    "latent": 16,
    "latents": 2,
    "blocks": 1,
    "heads": 2,
    "kv_heads": 1,
    "head_dim": 8,
}


@pytest.fixture
def plan(settings: dict[str, object], start: Path) -> TrainConfig:
    told = {"perceiver": SHAPE, "task_adapter": str(start / TASK_ADAPTER), "passage_tokens": 200}
    return validate(TrainConfig, settings | told, "test")


@pytest.fixture
def learner(base: BaseModel, plan: TrainConfig) -> PerceiverLearner:
    return begun(base, plan)


def begun(base: BaseModel, plan: TrainConfig, folder: Path | None = None) -> PerceiverLearner:
    assert plan.perceiver is not None
    assert plan.task_adapter is not None
    return PerceiverLearner.start(
        folder, base, plan.perceiver, plan.passage_tokens, Path(plan.task_adapter), plan.seed
    )


def finished(folder: Path, base: BaseModel, plan: TrainConfig) -> Run:
    run = Run(folder, HypernetworkCourse(begun(base, plan), plan), plan)
    for _ in run.train():
        pass
    return run


def test_a_new_one_changes_nothing(
    base: BaseModel, plan: TrainConfig, learner: PerceiverLearner
) -> None:
    batch = Lessons(base, plan)[0]

    with torch.no_grad():
        with_it, _ = learner.ask(batch, learner.write(batch))
        without, _ = learner.ask(batch, None)

    torch.testing.assert_close(with_it, without)


def test_updates_worn_together_have_one_bias(
    base: BaseModel, plan: TrainConfig, learner: PerceiverLearner
) -> None:
    with torch.no_grad():
        for parameter in learner.parameters().values():
            parameter += 0.1 * torch.randn(parameter.shape)
        written = learner.write(Lessons(base, plan)[0])
        worn = learner.together(written, 2)
        bias = learner.network.bias()

    for n, rows in enumerate(zip(*written, *worn, strict=True)):
        own, found = (values.mT @ keys for keys, values in (rows[:2], rows[2:]))
        common = (bias[1][n].mT @ bias[0][n]).detach()
        assert float(common.norm()) > 0
        torch.testing.assert_close(found, own + own.roll(-1, 0) - common, rtol=1e-4, atol=1e-4)


def test_everything_that_is_to_be_trained_gets_a_gradient(
    base: BaseModel, plan: TrainConfig, learner: PerceiverLearner
) -> None:
    marks = check_gradients(learner, base, plan)

    assert (marks.span, marks.place) == (0.0, 0.0)  # its keys are no tokens'


@pytest.mark.parametrize("encoder", ["early_exit", "per_layer_activations", "embed_only"])
def test_training_lowers_the_loss(
    base: BaseModel, plan: TrainConfig, tmp_path: Path, encoder: str
) -> None:
    blocks = 1 if encoder == "per_layer_activations" else 2
    assert plan.perceiver is not None
    shape = dataclasses.replace(plan.perceiver, encoder=encoder, encoder_blocks=blocks)
    longer = dataclasses.replace(plan, perceiver=shape, steps=60, learning_rate=1e-2)

    finished(tmp_path / "run", base, longer)

    rows = map(json.loads, (tmp_path / "run" / "log.jsonl").read_text().splitlines())
    losses = [row["loss"] for row in rows if row["kind"] == "train"]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])


def test_what_it_leaves_writes_as_it_was_taught(
    base: BaseModel, plan: TrainConfig, tmp_path: Path
) -> None:
    run = finished(tmp_path / "run", base, dataclasses.replace(plan, learning_rate=1e-2))
    task = dataclasses.replace(plan, task_adapter=str(run.checkpoint / TASK_ADAPTER))
    learner = begun(base, task, run.checkpoint)
    text = "The lamp weighs 840 grams."
    lessons = Lessons(base, plan)
    batch = lessons[0]
    ids = torch.tensor([base.plain_ids(text)])
    batch = dataclasses.replace(batch, chunk_ids=ids, chunk_mask=torch.ones_like(ids))

    with torch.no_grad():
        keys, values = learner.write(batch)
    made_by = PerceiverInternalizer.from_checkpoint(run.checkpoint, base, max_rank=64, max_chunks=4)
    document = Document(id="d", text=text, title="", source="")
    chunk = Chunk(
        document_id="d", content_hash=document.content_hash, start=0, end=len(text), text=text
    )
    made = made_by.internalize(document, [chunk])

    for (key,), (value,), layer in zip(keys, values, made.adapter.layers.values(), strict=True):
        torch.testing.assert_close(layer.up @ layer.down, value.T @ key, rtol=1e-3, atol=1e-4)
    assert any(float(layer.up.norm()) > 0 for layer in made.adapter.layers.values())


def test_layers_that_the_model_lacks_are_refused(settings: dict[str, object]) -> None:
    wrong = SHAPE | {"first_layer": 3}

    with pytest.raises(ConfigError, match="`first_layer` must be less than `last_layer`"):
        validate(TrainConfig, settings | {"perceiver": wrong}, "test")


def test_only_one_thing_is_trained(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="give one of `network:`, `perceiver:`"):
        validate(TrainConfig, settings | {"perceiver": SHAPE, "reading": {}}, "test")


@pytest.mark.parametrize(
    ("folder", "task_adapter", "expected"),
    [
        ("embedded", None, EMBEDDED_CHECKPOINTS / "reader"),
        ("embedded", "mine", Path("mine")),
        ("run", None, Path("run") / TASK_ADAPTER),
        ("run", "embedded", EMBEDDED_CHECKPOINTS / "reader"),
    ],
)
def test_it_begins_with_the_task_adapter_that_it_was_trained_with_or_is_given(
    plan: TrainConfig, folder: str, task_adapter: str | None, expected: Path
) -> None:
    plan = dataclasses.replace(plan, start=folder, task_adapter=task_adapter)

    assert perceivers_task_adapter(plan) == expected
