"""Teach the associative hypernetwork, its task adapter and the LoRA of its tower."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from hybridqa.errors import ConfigError
from hybridqa.internalize.associative import TASK_ADAPTER, TOWER, write
from hybridqa.internalize.checkpoint import load_checkpoint
from hybridqa.internalize.compress import leading_outputs
from hybridqa.internalize.hypernetwork import AssociativeHypernetwork
from hybridqa.models.base import BaseModel
from hybridqa.models.capture import decoder_layers
from hybridqa.stores.task_adapters import load_task_adapter
from hybridqa.training.batches import Batch
from hybridqa.training.config import NetworkConfig
from hybridqa.training.learner import Learner, Written
from hybridqa.types import Adapter, LoraLayer

_PER_LAYER = ("key", "key_diagonal", "value", "value_residual")
_PER_LAYER_ROWS = ("value_scale", "copy_scale", "span_temperature")
_PER_LAYER_BUFFERS = ("whiten_diagonal", "whiten_basis", "whiten_spectrum", "key_scale")
_GATES = ("value_gate", "copy_gate")

# Where a new network begins.
_KEY_STD, _VALUE_STD = 0.02, 0.05
_COPYING, _COPY_SCALE, _COPY_GATE = 4, 0.15, 2.0
_SPAN_TEMPERATURE = 8.0

_POWER_ITERATIONS = 2
"""Of compressing: one more than afterwards, when some directions more are looked at."""


class AssociativeLearner(Learner):
    """Updates of a row a token of the passage."""

    def __init__(
        self,
        base: BaseModel,
        network: AssociativeHypernetwork,
        task_adapter: Mapping[str, LoraLayer],
        tower: Mapping[str, LoraLayer],
        rank: int | None = None,
    ) -> None:
        """Take what is to be trained; see `start`.

        Args:
            base: The frozen model.
            network: Trained for it, or new.
            task_adapter: Trained with it.
            tower: Worn where it reads both ways; empty if it has no such layers.
            rank: That updates are compressed to; by default they stay whole.
        """
        adapters = {TASK_ADAPTER: task_adapter, **({TOWER: tower} if tower else {})}
        paths = [f"model.layers.{n}.mlp.down_proj" for n in network.config.layers]
        super().__init__(base, network, adapters, paths)
        self.network, self._rank = network, rank

    @classmethod
    def start(
        cls,
        folder: Path,
        base: BaseModel,
        shape: NetworkConfig,
        seed: int,
        task_adapter: Path | None = None,
    ) -> AssociativeLearner:
        """Begin with the weights of an associative checkpoint, as far as the shapes allow.

        What is new adds nothing at first.

        Args:
            folder: Of the checkpoint.
            base: The model it was trained with.
            shape: Of the network.
            seed: Of what is random.
            task_adapter: Folder of the one to begin with; by default the checkpoint's.

        Raises:
            ConfigError: The checkpoint's target layers do not include the new ones.
            ModelError: As of `load_checkpoint`.
        """
        old, _ = load_checkpoint(folder, base.fingerprint, torch.float32, AssociativeHypernetwork)
        layers = range(shape.first_layer, shape.last_layer)
        if not set(layers) <= set(old.config.layers) or layers[-1] != old.config.layers[-1]:
            raise ConfigError(
                f"`network:` has the target layers {layers[0]} to {layers[-1]}, but the checkpoint "
                f"`{folder}` has {old.config.layers[0]} to {old.config.layers[-1]}. Choose some of "
                "its last layers."
            )
        config = dataclasses.replace(
            old.config,
            first_layer=shape.first_layer,
            state_layer=shape.state_layer,
            tower_first=shape.tower_first,
            tower_last=shape.tower_last,
        )
        network = AssociativeHypernetwork(config)
        network.load_state_dict(_reshaped(old, network))
        if shape.fresh:
            _forget(network, seed)
        task = load_task_adapter(task_adapter or folder / TASK_ADAPTER, base.fingerprint)
        if config.tower and old.config.tower == config.tower and not shape.fresh:
            tower = load_task_adapter(folder / TOWER, base.fingerprint).layers
        else:
            tower = _new_lora(base, config.tower, shape.tower_rank, seed)
        return cls(base, network, task.layers, tower, shape.rank)

    @property
    def span_temperatures(self) -> Sequence[Tensor]:
        return list(self.network.span_temperature)

    @property
    def tower(self) -> Adapter | None:
        layers = self._adapters.get(TOWER)
        return Adapter("tower in training", layers, self.base.fingerprint) if layers else None

    def write(self, batch: Batch) -> Written:
        """See `Learner.write`; a row is a token, and those of padding have values of zero."""
        mixed = self.base.dtype == torch.bfloat16
        with torch.autocast(self.base.device.type, torch.bfloat16, enabled=mixed):
            pairs = list(
                write(
                    self.base,
                    self.network,
                    batch.chunk_ids,
                    batch.chunk_mask,
                    self._frozen(TASK_ADAPTER),
                    self.tower,
                )
            )
        return [keys for keys, _ in pairs], [values for _, values in pairs]

    def together(self, written: Written, count: int) -> Written:
        """See `Learner.together`; each update is compressed, if any is."""
        if self._rank is not None and self._rank < written[0][0].shape[1]:
            written = _compressed(written, self._rank)
        return super().together(written, count)


def _compressed(written: Written, rank: int) -> Written:
    """Return updates of so many rows that are nearly the best of that rank.

    Truncating an update's singular values is projecting what it puts out on its first left
    singular vectors. Those are taken as they are: gradients flow through what is projected.
    """
    keys, values = written
    with torch.no_grad():  # of all layers at once
        down, up = torch.cat(keys), torch.cat(values).mT
        found = leading_outputs(down, up, rank, iterations=_POWER_ITERATIONS)
        first = found.to(values[0].dtype).chunk(len(keys))
    compact = [(value @ f).mT @ key for key, value, f in zip(keys, values, first, strict=True)]
    return compact, [f.mT for f in first]


def _new_lora(base: BaseModel, blocks: range, rank: int, seed: int) -> dict[str, LoraLayer]:
    """Return factors for all linear layers of some blocks, whose products are zero."""
    generator = torch.Generator().manual_seed(seed)
    inside = {
        id(module): module
        for block in decoder_layers(base.model)[blocks.start : blocks.stop]
        for module in block.modules()
        if isinstance(module, nn.Linear)
    }
    return {
        path: LoraLayer(
            torch.randn(rank, module.in_features, generator=generator)
            / math.sqrt(module.in_features),
            torch.zeros(module.out_features, rank),
        )
        for path, module in base.model.named_modules()
        if id(module) in inside and isinstance(module, nn.Linear)
    }


def _reshaped(old: AssociativeHypernetwork, new: AssociativeHypernetwork) -> dict[str, Tensor]:
    """Return the old network's weights in the new one's shape: fewer layers, other inputs."""
    state, before = new.state_dict(), old.state_dict()
    skipped = new.config.first_layer - old.config.first_layer
    for name in state:
        head, _, rest = name.partition(".")
        if head in _PER_LAYER:
            state[name] = before[f"{head}.{int(rest) + skipped}"]
        elif head in (*_PER_LAYER_ROWS, *_PER_LAYER_BUFFERS, *_GATES):
            state[name] = before[name][skipped:]
        elif name == "input_proj.weight":
            shared = min(state[name].shape[1], before[name].shape[1])
            state[name] = torch.zeros_like(state[name])
            state[name][:, :shared] = before[name][:, :shared]
        elif name in before:
            state[name] = before[name]
    return state


def _forget(network: AssociativeHypernetwork, seed: int) -> None:
    """Give a network random weights. What is counted rather than learned, the whitening, stays.

    Even so its updates say something: a question whose activations resemble those at a token reads
    out, in the last layers, the token that followed it.
    """
    counted = {name: buffer.clone() for name, buffer in network.named_buffers()}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        network.load_state_dict(AssociativeHypernetwork(network.config).state_dict())
        network.load_state_dict(counted, strict=False)
        for key, value in zip(network.key, network.value, strict=True):
            key.normal_(std=_KEY_STD)
            value.normal_(std=_VALUE_STD)
        for diagonal in network.key_diagonal:
            diagonal.fill_(1.0)
        network.copy_gate.bias.fill_(_COPY_GATE)
        network.copy_scale[-_COPYING:] = _COPY_SCALE
        network.span_temperature.fill_(math.log(_SPAN_TEMPERATURE))
