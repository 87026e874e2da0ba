"""What learns to internalize: a network that writes updates, and the task adapter under it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hybridqa.internalize.associative import TASK_ADAPTER
from hybridqa.internalize.checkpoint import Hypernetwork, save_checkpoint
from hybridqa.models.base import BaseModel
from hybridqa.models.lora import stack, worn
from hybridqa.training.batches import Batch
from hybridqa.training.task_adapter import trainable, write_task_adapter
from hybridqa.types import Adapter, LoraLayer

Written = tuple[list[Tensor], list[Tensor]]
"""Keys (passages, rows, d_in) and values (passages, rows, d_out) of each layer that is changed."""


class Learner(ABC):
    """Parameters are float32; the base model is frozen and keeps its dtype."""

    _common_rows = 0
    """Last rows of an update that those of all passages have."""

    def __init__(
        self,
        base: BaseModel,
        network: Hypernetwork,
        adapters: Mapping[str, Mapping[str, LoraLayer]],
        paths: Sequence[str],
    ) -> None:
        """Take what is to be trained.

        Args:
            base: The frozen model.
            network: Trained for it, or new.
            adapters: Trained with it, by the folder of a checkpoint that they belong in; the task
                adapter is one of them.
            paths: Of the linear layers that are changed, in the order of what is written.
        """
        self.base = base
        self._network: Hypernetwork = network.float().to(base.device).train().requires_grad_(True)
        self._adapters = {folder: trainable(x, base) for folder, x in adapters.items()}
        self._paths = list(paths)
        self.teacher = Adapter(
            "task adapter before training",
            {
                path: LoraLayer(x.down.to(base.device), x.up.to(base.device))
                for path, x in adapters[TASK_ADAPTER].items()
            },
            base.fingerprint,
        )
        """Worn by the model that shows how to answer with the passage in the prompt."""

    @abstractmethod
    def write(self, batch: Batch) -> Written:
        """Read the passages; gradients flow where they are on.

        Returns:
            Keys (passages, rows, d_in) and values (passages, rows, d_out) of each of the layers
            that are changed. Row i of a layer's update: `values.T @ keys`.
        """

    def together(self, written: Written, count: int) -> Written:
        """Return what each passage wears: its own update and those of the passages after it.

        Args:
            written: See `write`.
            count: Updates that are worn, at least 1.
        """

        def laid(rows: Tensor) -> Tensor:
            own = rows[:, : rows.shape[1] - self._common_rows]
            others = [own.roll(-n, 0) for n in range(1, min(count, len(rows)))]
            return torch.cat([rows, *others], 1) if others else rows

        keys, values = (list(map(laid, side)) for side in written)
        return keys, values

    @property
    def span_temperatures(self) -> Sequence[Tensor]:
        """Log inverse temperatures of the keys, by layer, where each token has a key."""
        return ()

    @property
    def task_adapter(self) -> Adapter:
        layers = self._adapters[TASK_ADAPTER]
        return Adapter("task adapter in training", layers, self.base.fingerprint)

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return all parameters by a name."""
        named = {f"network.{name}": p for name, p in self._network.named_parameters()}
        return named | self.adapter_parameters()

    def adapter_parameters(self) -> dict[str, Any]:
        return {
            f"{folder}.{path}.{side}": getattr(layer, side)
            for folder, layers in self._adapters.items()
            for path, layer in layers.items()
            for side in ("down", "up")
        }

    def save(self, folder: Path) -> None:
        """Write what `internalize: hypernetwork:` takes."""
        save_checkpoint(folder, self._network)
        for name, layers in self._adapters.items():
            write_task_adapter(folder / name, layers, self.base)

    def ask(
        self, batch: Batch, written: Written | None, wearing: Adapter | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the hidden states of the rows, and what enters the layers that are changed.

        Args:
            batch: Its questions.
            written: Keys and values, row by row; none for the base model with the task adapter.
            wearing: Another adapter in place of the task adapter.
        """
        stacked = stack(self.base.model, [[wearing or self.task_adapter]] * len(batch.ids))
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

    def _frozen(self, folder: str) -> Adapter:
        layers = self._adapters[folder]
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
