"""A course of one parameter, and a process of its own that takes it: `python lines.py FOLDER`."""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from hybridqa.config import validate
from hybridqa.models.turns import Turns
from hybridqa.training.config import TrainConfig
from hybridqa.training.course import Measured
from hybridqa.training.losses import Marks
from hybridqa.training.run import Run

STEPS = 5


class Lines:
    """A `Course`: batch n pulls a parameter towards n; every other batch knows one of two only."""

    passages = 1

    def __init__(self, together: int = 1, begun: float = 0.0) -> None:
        """Let a step take so many batches together; the parameters begin as given."""
        self.turns, self._together = Turns(), together
        self._drawn = nn.Parameter(torch.full((3,), begun))
        self._rare = nn.Parameter(torch.full((2, 2), begun))

    def parameters(self) -> dict[str, nn.Parameter]:
        return {"drawn": self._drawn, "rare": self._rare}

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        return {"rare": self._rare}

    def prepare(self) -> None:
        pass

    def learn(self, number: int) -> tuple[Tensor, Marks]:
        first = number * self._together
        losses = [self._loss(first + n) for n in range(self._together)]
        loss = torch.stack(losses).mean()
        return loss, Marks(loss=float(loss.detach()), first=0.0, whole=0.0)

    def measure(self, thorough: bool) -> Measured:
        return {}

    def write_checkpoint(self, folder: Path) -> None:
        save_file({"drawn": self._drawn.detach()}, folder / "model.safetensors")

    def _loss(self, number: int) -> Tensor:
        loss = (self._drawn - number).square().sum()
        return loss + (self._rare - 1).square().sum() if number % 2 else loss


def taken(folder: Path, course: Lines) -> Run:
    """Take the whole course."""
    plan = validate(
        TrainConfig,
        {"locator": {}, "sources": [], "steps": STEPS, "warmup": 1, "minutes": 10, "save_every": 2},
        "test",
    )
    run = Run(folder, course, plan)
    for _ in run.train():
        pass
    return run


if __name__ == "__main__":
    import os

    from hybridqa.training.peers import Peers

    assert Peers().device("cpu") == "cpu"
    # The first's parameters are all that counts.
    taken(Path(sys.argv[1]), Lines(begun=0.0 if os.environ["RANK"] == "0" else 7.0))
