"""A training run: a folder that can be gone on with after any step that it saved."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from hybridqa.errors import ConfigError
from hybridqa.training.config import TrainConfig
from hybridqa.training.course import Course
from hybridqa.training.curves import draw_curves
from hybridqa.training.losses import Marks
from hybridqa.training.peers import Peers

CHECKPOINT = "checkpoint"
"""In a run's folder: what `internalize: hypernetwork:`, `model: reader:` or `internalize: locator:`
takes."""
LOG = "log.jsonl"
CURVES = "curves.png"
"""Drawn where Matplotlib is installed."""
_STATE = "state.safetensors"
_BETAS = (0.9, 0.98)
_CLIP = 1.0
_MOMENTS = ("exp_avg", "exp_avg_sq")
_AVERAGE = "average"


def schedule(step: int, config: TrainConfig, done: float) -> float:
    """Return the share of the learning rate at a step: it rises, stays, and falls along a line.

    Args:
        step: From 0 on.
        config: Says how.
        done: Share of the run that is behind, in steps or in time.
    """
    rise = min(1.0, (step + 1) / config.warmup)
    falling = max(1 / max(1, config.steps), config.decay)
    return rise * max(0.0, min(1.0, (1 - done) / falling))


class Run:
    """Trains in turns with whatever else the base model does, and with its peers, if it has some.

    What is evaluated and saved for use is the running average of the weights, which is better than
    the last ones while the learning rate is high: Polyak & Juditsky 1992.
    """

    def __init__(self, folder: Path, course: Course, config: TrainConfig) -> None:
        """Begin or, if the folder holds a state, go on from there.

        Raises:
            ConfigError: The state is of another network, or no parameter has a name that `frozen:`
                has a pattern of.
        """
        self._folder, self._course, self._config = folder, course, config
        self._peers = Peers()
        self._freeze()
        adapters = course.adapter_parameters()
        learning = {name: p for name, p in course.parameters().items() if p.requires_grad}
        groups: list[dict[str, Any]] = [
            {"params": [p for n, p in learning.items() if (n in adapters) is adapted], "peak": peak}
            for adapted, peak in (
                (False, config.learning_rate),
                (True, config.adapter_learning_rate),
            )
        ]
        groups = [group for group in groups if group["params"]]
        self._optimizer = torch.optim.AdamW(
            groups,
            lr=config.learning_rate,
            betas=_BETAS,
            weight_decay=config.weight_decay,
            fused=all(p.is_cuda for group in groups for p in group["params"]),
        )
        self._began = time.perf_counter()
        self._average = {n: p.detach().clone() for n, p in course.parameters().items()}
        self._prepared = (folder / _STATE).exists()
        self.step = self._resume() if self._prepared else 0
        self._peers.wait()  # all have seen whether there is a state

    @property
    def passages(self) -> int:
        """How many there are to draw from."""
        return self._course.passages

    @property
    def last_step(self) -> int:
        return self._config.steps

    @property
    def checkpoint(self) -> Path:
        return self._folder / CHECKPOINT

    @property
    def told(self) -> bool:
        """Whether this process tells how it goes: of several, the first does."""
        return self._peers.first

    def train(self) -> Iterator[tuple[int, Marks]]:
        """Yield each step's number and marks; evaluate and save now and then, and at the end.

        Of several processes the first evaluates and saves, and the marks are those of the batches
        of each.
        """
        config, turns = self._config, self._course.turns
        if not self._prepared:
            turns.run(self._prepare)
            self.save()
            self._prepared = True
        if self.step == 0:
            self._evaluate(thorough=True)
        done = self._done()
        while done < 1:
            began, cpu = time.perf_counter(), time.process_time()
            marks = turns.run(partial(self._learn, done))
            self.step += 1
            self._log(
                "train",
                **{key: round(value, 4) for key, value in asdict(marks).items()},
                seconds=round(time.perf_counter() - began, 2),
                cpu_seconds=round(time.process_time() - cpu, 2),
            )
            yield self.step, marks
            done = self._done()
            if done >= 1 or self.step % config.save_every == 0:
                self.save()  # before what could fail
            if done >= 1 or self.step % config.evaluation.every == 0:
                self._evaluate(thorough=done >= 1)
        self._peers.wait()

    def _done(self) -> float:
        """Return the share of the run that is behind."""
        if self.step >= self._config.steps:
            return 1.0
        done = self.step / self._config.steps
        if self._config.minutes is not None:
            done = max(done, self._peers.agreed(self._seconds) / (60 * self._config.minutes))
        return done

    @property
    def _seconds(self) -> float:
        """That the run has taken, with those before it was gone on with."""
        return time.perf_counter() - self._began

    def _freeze(self) -> None:
        parameters = self._course.parameters()
        for pattern in self._config.frozen:
            names = fnmatch.filter(parameters, pattern)
            if not names:
                some = ", ".join(f"`{name}`" for name in list(parameters)[::50][:5])
                raise ConfigError(
                    f"`frozen:` has `{pattern}`, which no parameter is named like. Use patterns of "
                    f"names such as {some}."
                )
            for name in names:
                parameters[name].requires_grad_(False)

    def _prepare(self) -> None:
        self._course.prepare()
        self._peers.agree(p.data for p in self._course.parameters().values())
        for name, parameter in self._course.parameters().items():
            self._average[name].copy_(parameter.detach())

    def _learn(self, done: float) -> Marks:
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * schedule(self.step, self._config, done)
        with torch.enable_grad():
            loss, marks = self._course.learn(self._peers.batch(self.step))
            loss.backward()
        for group in self._optimizer.param_groups:
            self._peers.share(group["params"])
            nn.utils.clip_grad_norm_(group["params"], _CLIP)  # none drowns the others
        self._optimizer.step()
        self._optimizer.zero_grad()
        kept = min(self._config.average, (self.step + 1) / (self.step + 10))
        now = [parameter.detach() for parameter in self._course.parameters().values()]
        torch._foreach_lerp_(list(self._average.values()), now, 1 - kept)
        return marks

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Let the learner have the average weights in the block."""
        with torch.no_grad():
            last = {n: p.detach().clone() for n, p in self._course.parameters().items()}
            self._set(self._average)
            try:
                yield
            finally:
                self._set(last)

    def _set(self, weights: Mapping[str, Tensor]) -> None:
        for name, parameter in self._course.parameters().items():
            parameter.data.copy_(weights[name])

    def _evaluate(self, thorough: bool) -> None:
        if not self._peers.first:
            return
        with self._averaged():
            found = self._course.turns.run(lambda: self._course.measure(thorough))
        self._log("evaluation", sets=found)
        if find_spec("matplotlib"):
            draw_curves(self._folder / LOG, self._folder / CURVES)

    def _log(self, kind: str, **values: Any) -> None:
        if not self._peers.first:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / LOG).open("a") as file:
            file.write(json.dumps({"kind": kind, "step": self.step, **values}) + "\n")

    def save(self) -> None:
        """Write the state to go on from, and the checkpoint to use; each whole or not at all."""
        if not self._peers.first:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        tensors = {}
        for name, parameter in self._course.parameters().items():
            tensors[name] = parameter.detach()
            tensors[f"{_AVERAGE}.{name}"] = self._average[name]
            for moment in _MOMENTS:
                state = self._optimizer.state.get(parameter)
                if state:
                    tensors[f"{moment}.{name}"] = state[moment]
        new = self._folder / f"{_STATE}.new"
        told = {"step": self.step, "shape": self._shape(), "seconds": self._seconds}
        save_file(tensors, new, {name: str(value) for name, value in told.items()})
        os.replace(new, self._folder / _STATE)
        with self._averaged():
            self._save_checkpoint()

    def _save_checkpoint(self) -> None:
        target = self.checkpoint
        new = target.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        self._course.write_checkpoint(new)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(new, target)

    def _shape(self) -> str:
        shapes = [(n, list(p.shape)) for n, p in self._course.parameters().items()]
        return hashlib.sha256(json.dumps(shapes).encode()).hexdigest()

    def _resume(self) -> int:
        path = self._folder / _STATE
        with safe_open(path, "pt") as file:
            told = file.metadata() or {}
            if told.get("shape") != self._shape():
                raise ConfigError(
                    f"`{path}` is the state of a network of another shape. Train into another "
                    "folder, or restore the config that it was trained with."
                )
            step = int(told["step"])
            self._began -= float(told.get("seconds", 0))
            moved = f"{_MOMENTS[0]}."
            known = set(file.keys())
            with torch.no_grad():
                for name, parameter in self._course.parameters().items():
                    parameter.copy_(file.get_tensor(name))
                    self._average[name].copy_(file.get_tensor(f"{_AVERAGE}.{name}"))
                    if moved + name in known:
                        self._optimizer.state[parameter] = {
                            "step": torch.tensor(float(step), device=parameter.device),
                            **{m: file.get_tensor(f"{m}.{name}").to(parameter) for m in _MOMENTS},
                        }
        return step
