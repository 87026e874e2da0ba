"""Teach the Perceiver hypernetwork of Doc-to-LoRA, and a task adapter under it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from hybridqa.internalize.associative import TASK_ADAPTER
from hybridqa.internalize.checkpoint import load_checkpoint
from hybridqa.internalize.doc_to_lora import target_paths
from hybridqa.internalize.perceiver import PerceiverConfig, PerceiverHypernetwork
from hybridqa.internalize.reading import states_of, turn_ends
from hybridqa.models.base import BaseModel
from hybridqa.models.padding import padded
from hybridqa.models.targets import linear_paths
from hybridqa.stores.task_adapters import load_task_adapter
from hybridqa.training.batches import Batch
from hybridqa.training.config import PerceiverShape
from hybridqa.training.learner import Learner, Written
from hybridqa.types import LoraLayer


class PerceiverLearner(Learner):
    """Updates of a row a rank, those of the bias last."""

    def __init__(
        self,
        base: BaseModel,
        network: PerceiverHypernetwork,
        task_adapter: Mapping[str, LoraLayer],
    ) -> None:
        """Take what is to be trained; see `start`.

        Args:
            base: The frozen model.
            network: Trained for it, or new.
            task_adapter: Trained with it.
        """
        adapters = {TASK_ADAPTER: task_adapter}
        super().__init__(base, network, adapters, target_paths(base, network.config))
        self.network = network
        self._common_rows = network.config.rank if network.config.use_bias else 0
        self._before, self._after = turn_ends(base)

    @classmethod
    def start(
        cls,
        folder: Path | None,
        base: BaseModel,
        shape: PerceiverShape,
        passage_tokens: int,
        task_adapter: Path,
        seed: int,
    ) -> PerceiverLearner:
        """Begin with a checkpoint, or with random weights, whose updates are zero.

        Args:
            folder: Of the checkpoint, whose shape is kept; `None` for a new network.
            base: The model it was, or is to be, trained with.
            shape: Of a new network.
            passage_tokens: Of the longest passage.
            task_adapter: Folder of the one to begin with.
            seed: Of what is random.

        Raises:
            ModelError: As of `load_checkpoint` and `target_paths`.
        """
        task = load_task_adapter(task_adapter, base.fingerprint).layers
        if folder is not None:
            network, _ = load_checkpoint(
                folder, base.fingerprint, torch.float32, PerceiverHypernetwork
            )
            return cls(base, network, task)
        layers = range(shape.first_layer, shape.last_layer)
        modules = sorted(shape.modules)
        sizes = {
            name: base.model.get_parameter(f"{path}.weight").shape
            for name, path in zip(
                modules, linear_paths(base.model, layers[:1], modules), strict=True
            )
        }
        config = PerceiverConfig(
            model_fingerprint=base.fingerprint,
            encoder=shape.encoder,
            encoder_blocks=shape.encoder_blocks,
            layers=tuple(layers),
            modules=tuple(modules),
            d_in={name: d_in for name, (_, d_in) in sizes.items()},
            d_out={name: d_out for name, (d_out, _) in sizes.items()},
            hidden=base.model.config.hidden_size,
            rank=shape.rank,
            alpha=2 * shape.rank**1.5,
            latent=shape.latent,
            latents=shape.latents,
            blocks=shape.blocks,
            heads=shape.heads,
            kv_heads=shape.kv_heads,
            head_dim=shape.head_dim,
            max_chunk_tokens=passage_tokens + sum(map(len, turn_ends(base))),
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(base, PerceiverHypernetwork(config), task)

    def write(self, batch: Batch) -> Written:
        """See `Learner.write`."""
        rows = zip(batch.chunk_ids.tolist(), batch.chunk_mask.sum(-1).tolist(), strict=True)
        turns = [[*self._before, *row[:length], *self._after] for row, length in rows]
        ids, mask = padded(turns, self.base.device)
        worn = [self._frozen(TASK_ADAPTER)]
        states = states_of(self.base, self.network.config, ids, mask, worn)
        return self.network.with_bias(*self.network(states, mask))  # in float32, as afterwards
