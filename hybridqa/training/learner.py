"""What learns: the network, the task adapter under it, and the LoRA of its tower."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hybridqa.errors import ConfigError
from hybridqa.internalize.associative import TASK_ADAPTER, TOWER, Written, write
from hybridqa.internalize.checkpoint import load_checkpoint
from hybridqa.internalize.compress import leading_outputs
from hybridqa.internalize.hypernetwork import AssociativeConfig, AssociativeHypernetwork
from hybridqa.models.base import BaseModel
from hybridqa.models.capture import decoder_layers
from hybridqa.models.lora import stack, worn
from hybridqa.stores.task_adapters import load_task_adapter
from hybridqa.training.batches import Batch
from hybridqa.training.config import NetworkConfig
from hybridqa.training.task_adapter import trainable
from hybridqa.types import Adapter, LoraLayer

_PER_LAYER = ("key", "key_diagonal", "value", "value_residual")
_PER_LAYER_ROWS = ("value_scale", "copy_scale", "span_temperature")
_PER_LAYER_BUFFERS = ("whiten_diagonal", "whiten_basis", "whiten_spectrum", "key_scale")
_GATES = ("value_gate", "copy_gate")


class Learner:
    """Parameters are float32; the base model is frozen and keeps its dtype."""

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
        self.base = base
        self.network = network.float().to(base.device).train().requires_grad_(True)
        self._task = trainable(task_adapter, base)
        self._tower = trainable(tower, base)
        self._rank = rank
        self._paths = [f"model.layers.{n}.mlp.down_proj" for n in network.config.layers]

    @classmethod
    def start(cls, folder: Path, base: BaseModel, shape: NetworkConfig, seed: int) -> Learner:
        """Begin with the weights of an associative checkpoint, as far as the shapes allow.

        What is new adds nothing at first.

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
        task = load_task_adapter(folder / TASK_ADAPTER, base.fingerprint)
        if config.tower and old.config.tower == config.tower:
            tower = load_task_adapter(folder / TOWER, base.fingerprint).layers
        else:
            tower = _new_lora(base, config.tower, shape.tower_rank, seed)
        return cls(base, network, task.layers, tower, shape.rank)

    @property
    def config(self) -> AssociativeConfig:
        return self.network.config

    @property
    def task_adapter(self) -> Adapter:
        return Adapter("task adapter in training", self._task, self.base.fingerprint)

    @property
    def tower(self) -> Adapter:
        return Adapter("tower in training", self._tower, self.base.fingerprint)

    def adapters(self) -> dict[str, Mapping[str, LoraLayer]]:
        """Return the adapters by the folder of a checkpoint that they belong in."""
        found: dict[str, Mapping[str, LoraLayer]] = {TASK_ADAPTER: self._task}
        if self._tower:
            found[TOWER] = self._tower
        return found

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return all parameters by a name."""
        named = {f"network.{name}": p for name, p in self.network.named_parameters()}
        return named | self.adapter_parameters()

    def adapter_parameters(self) -> dict[str, Any]:
        return {
            f"{folder}.{path}.{side}": getattr(layer, side)
            for folder, layers in self.adapters().items()
            for path, layer in layers.items()
            for side in ("down", "up")
        }

    def write(self, batch: Batch) -> Written:
        """Read the passages; gradients flow where they are on."""
        with torch.autocast(self.base.device.type, torch.bfloat16, enabled=self._mixed):
            keys, values = write(
                self.base,
                self.network,
                batch.chunk_ids,
                batch.chunk_mask,
                self._frozen(self._task),
                self.tower if self._tower else None,
            )
        if self._rank is None:
            return keys, values
        pairs = zip(keys, values, strict=True)
        return keys, [_compressed(key, value, self._rank) for key, value in pairs]

    def ask(self, batch: Batch, written: Written | None) -> tuple[Tensor, list[Tensor]]:
        """Return the hidden states of the rows, and what enters the target layers' `down_proj`.

        Args:
            batch: Its questions.
            written: Keys and values, row by row; none for the base model with the task adapter.
        """
        stacked = stack(self.base.model, [[self.task_adapter]] * len(batch.ids))
        with worn(self.base, stacked) as model, self._remembering(written) as asked:
            decoder: Any = model.base_model
            states = decoder(
                input_ids=batch.ids,
                attention_mask=batch.attention,
                position_ids=batch.positions,
                use_cache=False,
            ).last_hidden_state
        return states, asked

    def logits(self, states: Tensor) -> Tensor:
        """Return (n, vocabulary) in float32 of hidden states (n, hidden)."""
        head: Any = self.base.model.get_output_embeddings()
        return torch.as_tensor(head(states)).float()

    @property
    def _mixed(self) -> bool:
        return self.base.dtype == torch.bfloat16

    def _frozen(self, layers: Mapping[str, LoraLayer]) -> Adapter:
        detached = {p: LoraLayer(x.down.detach(), x.up.detach()) for p, x in layers.items()}
        return Adapter("frozen", detached, self.base.fingerprint)

    @contextmanager
    def _remembering(self, written: Written | None) -> Iterator[list[Tensor]]:
        """Add each row's update, a token's key and value a rank, to the target layers."""
        asked: list[Tensor] = []

        def hook(n: int):  # type: ignore[no-untyped-def]
            def add(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
                x = args[0]
                asked.append(x)
                if written is None:
                    return output
                keys, values = written[0][n].to(x.dtype), written[1][n].to(x.dtype)
                return output + (x @ keys.mT) @ values

            return add

        handles = [
            self.base.model.get_submodule(path).register_forward_hook(hook(n))
            for n, path in enumerate(self._paths)
        ]
        try:
            yield asked
        finally:
            for handle in handles:
                handle.remove()


def _compressed(keys: Tensor, values: Tensor, rank: int) -> Tensor:
    """Return values (passages, tokens, d_out) whose updates are nearly the best of a rank.

    Truncating an update's singular values is projecting what it puts out on its first left
    singular vectors. Those are taken as they are: gradients flow through what is projected.
    """
    with torch.no_grad():
        first = leading_outputs(keys.float(), values.float().mT, rank).to(values.dtype)
    return (values @ first) @ first.mT


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
    """Return the old network's weights in the new one's shape: fewer layers, more inputs."""
    state, before = new.state_dict(), old.state_dict()
    skipped = new.config.first_layer - old.config.first_layer
    for name in state:
        head, _, rest = name.partition(".")
        if head in _PER_LAYER:
            state[name] = before[f"{head}.{int(rest) + skipped}"]
        elif head in (*_PER_LAYER_ROWS, *_PER_LAYER_BUFFERS, *_GATES):
            state[name] = before[name][skipped:]
        elif name == "input_proj.weight":
            state[name] = torch.zeros_like(state[name])
            state[name][:, : before[name].shape[1]] = before[name]
        elif name in before:
            state[name] = before[name]
    return state
