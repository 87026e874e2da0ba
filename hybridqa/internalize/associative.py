"""Internalize a document by one forward pass per chunk of the associative hypernetwork."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from hybridqa.errors import DocumentTooLongError, InternalizeError
from hybridqa.internalize.checkpoint import load_checkpoint
from hybridqa.internalize.compress import compress_batch
from hybridqa.internalize.hypernetwork import AssociativeHypernetwork
from hybridqa.models.base import BaseModel
from hybridqa.models.capture import read
from hybridqa.models.padding import padded
from hybridqa.models.states import both_ways
from hybridqa.stores.peft_folder import adapter_id, document_origin
from hybridqa.stores.task_adapters import load_task_adapter
from hybridqa.types import Adapter, Chunk, Document, Internalized, LoraLayer

TASK_ADAPTER = "task_adapter"
"""Folder in a checkpoint with the adapter that was trained together with the network."""

TOWER = "tower"
"""Folder in a checkpoint with the adapter of the layers that read both ways, if it has such."""

_BATCH_TOKENS = 1024
"""Of the chunks that are read at once; a document of several batches needs no more memory."""


class AssociativeInternalizer:
    """An `Internalizer`: each chunk's update is compressed and gets its share of the rank."""

    name = "associative"

    def __init__(
        self,
        base: BaseModel,
        network: AssociativeHypernetwork,
        task_adapter: Adapter,
        network_hash: str,
        tower: Adapter | None = None,
        *,
        rank: int,
        max_rank: int,
        max_chunks: int,
    ) -> None:
        """Wire the pieces; `from_checkpoint` loads them.

        Args:
            base: The model that will wear the adapters.
            network: Trained for `base`.
            task_adapter: Trained together with the network, to be worn under its adapters.
            network_hash: Of the network's checkpoint.
            tower: Worn by the layers that read both ways, if the network has such.
            rank: That each chunk's update is compressed to.
            max_rank: Of a whole adapter; documents of many chunks get less rank for each.
            max_chunks: Longer documents are refused.

        """
        self._base, self._network, self._tower = base, network, tower
        self.task_adapter = task_adapter
        self._rank, self._max_rank, self._max_chunks = rank, max_rank, max_chunks
        settings = f"{network_hash}|{task_adapter.id}|{rank}|{max_rank}"
        settings += f"|{tower.id}" if tower else ""
        self.fingerprint = hashlib.sha256(settings.encode()).hexdigest()
        self.paths = [f"model.layers.{n}.mlp.down_proj" for n in network.config.layers]
        """Of what is changed, layer by layer."""

    @classmethod
    def from_checkpoint(
        cls, folder: Path, base: BaseModel, *, rank: int, max_rank: int, max_chunks: int
    ) -> AssociativeInternalizer:
        """Load `folder` (with its co-trained task adapter).

        Raises:
            ModelError: Not a checkpoint, or trained with another base model.
        """
        network, digest = base.lock.run(
            partial(load_checkpoint, folder, base.fingerprint, base.dtype, AssociativeHypernetwork)
        )
        task_adapter = load_task_adapter(folder / TASK_ADAPTER, base.fingerprint)
        tower = None
        if network.config.tower:
            tower = load_task_adapter(folder / TOWER, base.fingerprint)
        return cls(
            base,
            network.to(base.device),
            task_adapter,
            digest,
            tower,
            rank=rank,
            max_rank=max_rank,
            max_chunks=max_chunks,
        )

    def internalize(self, document: Document, chunks: Sequence[Chunk]) -> Internalized:
        """Return the adapter of a document, one share of its rank for each chunk.

        Where there are more chunks than ranks, neighbours have one share together. See
        `protocols.Internalizer`.
        """
        began = time.perf_counter()
        if not chunks:
            raise InternalizeError(
                f"Document `{document.id}` has no chunks. Ingest a document with some text."
            )
        if len(chunks) > self._max_chunks:
            # Chunks are balanced, so a few tell the document's length well enough.
            longest = max(len(self._base.plain_ids(chunk.text)) for chunk in chunks[:8])
            raise DocumentTooLongError(
                document.id, len(chunks) * longest, self._max_chunks * longest
            )
        together = math.ceil(len(chunks) / self._max_rank)
        groups = [chunks[n : n + together] for n in range(0, len(chunks), together)]
        rank = min(self._rank, self._max_rank // len(groups))
        sequences = [self._base.plain_ids(chunk.text) for chunk in chunks]
        run = self._base.lock.run
        layers = run(partial(self._zeros, rank * len(groups)))
        energies: list[float] = []
        at = 0
        # A batch is one turn: where many ask, each in the background waits for eight of theirs.
        for batch in self._batches(sequences, together):
            energies += run(partial(self._fill, list(layers.values()), at, batch, together, rank))
            at += rank * math.ceil(len(batch) / together)
        fingerprint = self._base.fingerprint
        origin = document_origin(document.id, document.content_hash)
        return Internalized(
            adapter=Adapter(adapter_id(layers, fingerprint, origin), layers, fingerprint),
            task_adapter=self.task_adapter,
            rank=rank * len(groups),
            energy=sum(energies) / len(energies),
            shares=tuple((group[0].start, group[-1].end) for group in groups),
            good_shares=max(1, self._network.config.good_chunks // together),
            seconds=time.perf_counter() - began,
        )

    @property
    def layers(self) -> range:
        """Target layers."""
        return self._network.config.layers

    @property
    def sharpness(self) -> Tensor:
        """Inverse temperature, by layer, with which keys were trained to be found."""
        return torch.exp(self._network.span_temperature.detach().float())

    def keys(self, sequences: Sequence[list[int]]) -> Iterator[Tensor]:
        """Yield the keys (layers, tokens, d_in) of each chunk, given its tokens."""
        for batch in self._batches(sequences, 1):
            keys = self._base.lock.run(partial(self._keys, batch))
            for chunk, rows in zip(batch, keys, strict=True):
                yield rows[:, : len(chunk)]

    def _batches(
        self, sequences: Sequence[list[int]], together: int
    ) -> Iterator[Sequence[list[int]]]:
        """Yield the chunks' tokens, some groups of `together` at a time."""
        size = max(1, _BATCH_TOKENS // (max(map(len, sequences)) * together)) * together
        for start in range(0, len(sequences), size):
            yield sequences[start : start + size]

    @torch.inference_mode()
    def _keys(self, batch: Sequence[list[int]]) -> Tensor:
        """Return (chunks, layers, tokens, d_in)."""
        return torch.stack([key for key, _ in self._written(batch)], 1)

    def _zeros(self, rank: int) -> dict[str, LoraLayer]:
        """Return the factors of an adapter that does nothing yet."""
        config, dtype = self._network.config, torch.bfloat16
        return {
            path: LoraLayer(
                torch.zeros(rank, config.intermediate, dtype=dtype, device=self._base.device),
                torch.zeros(config.hidden, rank, dtype=dtype, device=self._base.device),
            )
            for path in self.paths
        }

    @torch.inference_mode()
    def _fill(
        self,
        layers: Sequence[LoraLayer],
        at: int,
        batch: Sequence[list[int]],
        together: int,
        rank: int,
    ) -> list[float]:
        """Write the factors of each group of chunks into the adapter, from row `at` on.

        A group of fewer tokens than `rank` has a smaller rank, but shares are of equal size.

        Returns:
            The energy that was kept, of each layer and group.
        """
        energies: list[float] = []
        for layer, (keys, values) in zip(layers, self._written(batch), strict=True):
            downs, ups, kept = compress_batch(
                _grouped(keys, together), _grouped(values, together).mT, rank
            )
            for n, (down, up) in enumerate(zip(downs, ups, strict=True)):
                rows = slice(at + n * rank, at + n * rank + len(down))
                layer.down[rows], layer.up[:, rows] = down, up
            energies += kept
        return energies

    def _written(self, batch: Sequence[list[int]]) -> Iterator[tuple[Tensor, Tensor]]:
        ids, mask = padded(batch, self._base.device)
        return write(self._base, self._network, ids, mask, self.task_adapter, self._tower)


def write(
    base: BaseModel,
    network: AssociativeHypernetwork,
    ids: Tensor,
    mask: Tensor,
    task_adapter: Adapter,
    tower: Adapter | None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Let the network write a batch of chunks, one target layer after the other.

    Gradients, where they are on, flow to the network and to the factors of `tower`.

    Args:
        base: The frozen model.
        network: Trained for it.
        ids: Token ids (chunks, tokens), padded on the right.
        mask: 1 for real tokens, same shape.
        task_adapter: Worn while the model reads.
        tower: Worn where it reads both ways; wanted if the network's config has a tower.

    Yields:
        Keys (chunks, tokens, d_in) and values (chunks, tokens, d_out) of a target layer; values
        of padding are zero. What only this layer needs is let go of afterwards.
    """
    config = network.config
    states = [*config.states, *config.tower[:1]]
    reading = read(base, ids, mask, config.layers, states, [task_adapter])
    # Nothing follows a chunk's last token, whether padding stands there or not.
    features = [reading.embeddings * mask[..., None]]
    features += [reading.states[n] for n in config.states]
    if config.tower:
        assert tower is not None
        below = reading.states[config.tower_first]
        features.append(both_ways(base, below, mask, config.tower, [tower]))
    inputs = list(reading.mlp_inputs)
    del reading
    # Not a loop over the list, which would hold all that was read until the last layer is written.
    yield from network.by_layer(features, (inputs.pop(0) for _ in range(len(inputs))), mask)


def _grouped(rows: Tensor, together: int) -> Tensor:
    """Return (groups, together * tokens, width) of (chunks, tokens, width), zeros at the end."""
    missing = -len(rows) % together
    if missing:
        rows = torch.cat([rows, rows.new_zeros(missing, *rows.shape[1:])])
    return rows.reshape(-1, together * rows.shape[1], rows.shape[2])
