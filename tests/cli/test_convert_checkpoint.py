"""From a published checkpoint to an adapter: the command, then the settings that it advises."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hybridqa.config import Config, load_yaml
from hybridqa.errors import ConfigError
from hybridqa.types import Chunk, Document
from hybridqa.wiring.models import Models
from tests.internalize.published import LAYERS, QWEN, RANK, write_published

Cli = Callable[..., Any]
SETTINGS = """
model: {{name: {model}, dtype: float32, device: cpu, reader: null}}
internalize: {{internalizer: {internalizer}, hypernetwork: {folder}, max_rank: 64}}
"""


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A published checkpoint, a folder for ours, and settings that name it and the model."""
    base = QWEN.model()
    base.model.save_pretrained(tmp_path / "model")
    base.tokenizer.save_pretrained(tmp_path / "model")
    write_published(tmp_path / "pytorch_model.bin", QWEN, "per_layer_activations")
    folder, settings = tmp_path / "perceiver", tmp_path / "settings.yaml"
    settings.write_text(
        SETTINGS.format(model=tmp_path / "model", internalizer="perceiver", folder=folder)
    )
    return tmp_path / "pytorch_model.bin", folder, settings


def test_a_converted_checkpoint_internalizes(cli: Cli, paths: tuple[Path, Path, Path]) -> None:
    source, folder, settings = paths

    done = cli("adapters", "convert-checkpoint", source, folder, "--config", settings, "--json")

    assert done.json == {
        "folder": str(folder),
        "kind": "perceiver",
        "encoder": "per_layer_activations",
    }
    made_by = Models(load_yaml(Config, settings)).internalizer()
    assert made_by is not None
    document = Document(id="d", text="The office is closed.", title="", source="")
    chunk = Chunk(
        document_id="d", content_hash=document.content_hash, start=0, end=21, text=document.text
    )
    made = made_by.internalize(document, [chunk])
    assert made_by.name == "perceiver"
    assert set(made.adapter.layers) == {f"model.layers.{n}.mlp.down_proj" for n in range(LAYERS)}
    assert made.rank == 2 * RANK


def test_the_hypernetwork_must_be_of_the_kind_that_is_wanted(
    cli: Cli, paths: tuple[Path, Path, Path]
) -> None:
    source, folder, settings = paths
    assert cli("adapters", "convert-checkpoint", source, folder, "--config", settings).code == 0
    models = Models(load_yaml(Config, settings))

    with pytest.raises(ConfigError, match=r"makes `perceiver` adapters, and `associative` ones"):
        models.internalizer("associative")
    with pytest.raises(ConfigError, match=r"makes `associative` adapters, and `perceiver` ones"):
        Models(Config()).internalizer("perceiver")


def test_what_is_refused_is_told_in_one_line(cli: Cli, paths: tuple[Path, Path, Path]) -> None:
    source, folder, settings = paths
    source.write_bytes(b"no checkpoint")

    done = cli("adapters", "convert-checkpoint", source, folder, "--config", settings)

    assert "cannot be read as a checkpoint" in done.error
    assert not folder.exists()
