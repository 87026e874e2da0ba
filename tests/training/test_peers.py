"""Several processes learn as one does that takes their batches together."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from hybridqa.models.base import BaseModel
from hybridqa.training.config import TrainConfig
from hybridqa.training.peers import Peers
from tests.training import lines
from tests.training.conftest import checkpoint_for


def two(*command: str) -> list[str]:
    """Run a command as `torchrun` would, twice at once; return what each says."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    told = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    started = [
        subprocess.Popen(
            [sys.executable, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ
            | told
            | {"RANK": rank, "LOCAL_RANK": rank, "MASTER_PORT": port, "OMP_NUM_THREADS": "1"},
        )
        for rank in "01"
    ]
    said = [process.communicate(timeout=240)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    return said


def test_a_process_alone_shares_nothing() -> None:
    peers = Peers()

    assert (peers.count, peers.number, peers.first) == (1, 0, True)
    assert peers.device("auto") == "auto"
    assert [peers.batch(step) for step in range(3)] == [0, 1, 2]
    assert peers.agreed(0.5) == 0.5


def test_two_learn_as_one_that_takes_both_batches(tmp_path: Path) -> None:
    two("-m", "tests.training.lines", str(tmp_path / "two"))
    lines.taken(tmp_path / "one", lines.Lines(together=2))

    one, both = (load_file(tmp_path / run / "state.safetensors") for run in ("one", "two"))
    assert set(one) == set(both)
    for name, tensor in one.items():
        torch.testing.assert_close(both[name], tensor, msg=name)
    rows = [json.loads(x) for x in (tmp_path / "two" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["kind"] == "train"] == [1, 2, 3, 4, 5]


@pytest.mark.slow
def test_the_command_is_spread_over_two_and_gone_on_with(
    base: BaseModel, plan: TrainConfig, tmp_path: Path
) -> None:
    model, config, run = tmp_path / "model", tmp_path / "two.yaml", tmp_path / "run"
    base.model.save_pretrained(model)
    base.tokenizer.save_pretrained(model)
    loaded = BaseModel.from_checkpoint(str(model), "float32", "cpu")
    start = checkpoint_for(loaded, tmp_path / "its own")
    half = dataclasses.replace(
        plan, model=str(model), start=str(start), device="cpu", ahead=2, workers=1
    )
    config.write_text(yaml.safe_dump(json.loads(json.dumps(dataclasses.asdict(half)))))
    command = ("-m", "hybridqa", "train", "--config", str(config), "--out", str(run))

    said = two(*command)
    config.write_text(config.read_text().replace("\nsteps: 4\n", "\nsteps: 6\n"))
    again = two(*command, "--resume")

    assert "Step 4" in said[0]
    assert "Step 6" in again[0]
    assert "Step" not in said[1] + again[1]
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["kind"] == "train"] == [1, 2, 3, 4, 5, 6]
    assert (run / "checkpoint" / "model.safetensors").exists()
