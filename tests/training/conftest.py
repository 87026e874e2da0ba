"""A tiny model, a random associative checkpoint for it, and passages to learn from."""

import json
from pathlib import Path

import pytest
import torch

from hybridqa.config import validate
from hybridqa.internalize.associative import TASK_ADAPTER
from hybridqa.internalize.checkpoint import save_checkpoint
from hybridqa.models.base import BaseModel
from hybridqa.stores.peft_folder import write_peft
from hybridqa.testing import tiny_model, tiny_network
from hybridqa.training.associative import AssociativeLearner
from hybridqa.training.batches import Lessons
from hybridqa.training.config import TrainConfig
from hybridqa.training.learner import Learner
from hybridqa.training.losses import Marks, learn
from hybridqa.types import LoraLayer


def check_gradients(learner: Learner, base: BaseModel, plan: TrainConfig) -> Marks:
    """Assert that all that is to be trained gets a gradient; return the marks of a batch."""
    with torch.no_grad():
        for parameter in learner.parameters().values():  # what is new is zero at first
            parameter += 0.01 * torch.randn(parameter.shape)

    loss, marks = learn(learner, Lessons(base, plan)[0], plan.losses)
    loss.backward()

    for name, parameter in learner.parameters().items():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().sum()) > 0, name
    return marks


PASSAGES = [
    ("The office is closed on Wednesdays. Tea is served at four.", "When is tea?", "at four"),
    ("Leave is 27 days a year for all of the staff.", "How many days?", "27 days"),
    ("The lamp weighs 840 grams and was made in 1987.", "Which year?", "1987"),
    ("Ilse Marrow designed it, in a small town by the sea.", "Who?", "Ilse Marrow"),
]


@pytest.fixture(scope="session")
def base() -> BaseModel:
    return tiny_model()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [
        {"context": text, "qas": [{"question": q, "answers": [a]}]} for text, q, a in PASSAGES * 2
    ]
    path = tmp_path / "passages.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def start(base: BaseModel, tmp_path: Path) -> Path:
    return checkpoint_for(base, tmp_path / "start")


def checkpoint_for(base: BaseModel, folder: Path) -> Path:
    """Write a random associative hypernetwork for a model."""
    generator = torch.Generator().manual_seed(0)
    network = tiny_network(base, generator, first_layer=1)
    save_checkpoint(folder, network, eight_bits=False)
    factors = torch.randn(2, 32, generator=generator), torch.randn(32, 2, generator=generator)
    layer = LoraLayer(0.1 * factors[0], 0.1 * factors[1])
    write_peft(folder / TASK_ADAPTER, {"model.layers.0.self_attn.q_proj": layer}, base.name)
    return folder


@pytest.fixture
def settings(data: Path) -> dict[str, object]:
    """Of a short run, whatever is trained."""
    return {
        "dtype": "float32",
        "sources": [{"path": str(data)}],
        "evaluation": {"sets": {"own": str(data)}, "questions": 4, "every": 2},
        "batch": 4,
        "steps": 4,
        "warmup": 1,
        "save_every": 2,
    }


@pytest.fixture
def plan(settings: dict[str, object], start: Path) -> TrainConfig:
    network = {"first_layer": 2, "last_layer": 4, "state_layer": 1}
    return validate(
        TrainConfig,
        settings
        | {
            "start": str(start),
            "network": network | {"tower_first": 0, "tower_last": 2, "tower_rank": 2},
            "tasks": {"foreign": 0.5},
        },
        "test",
    )


@pytest.fixture
def learner(base: BaseModel, plan: TrainConfig) -> AssociativeLearner:
    return AssociativeLearner.start(Path(plan.start), base, plan.network, seed=0)
