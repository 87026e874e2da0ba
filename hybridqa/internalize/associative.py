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

_BATCH_TOKENS = 2048

Written = tuple[list[Tensor], list[Tensor]]
"""Keys (chunks, tokens, d_in) and values (chunks, tokens, d_out) per target layer."""


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
        downs: list[list[Tensor]] = [[] for _ in self.paths]
        ups: list[list[Tensor]] = [[] for _ in self.paths]
        energies: list[float] = []
        run = self._base.lock.run
        for written in self._write(sequences, together):
            compressed = run(partial(_compressed, written, together, rank))
            for n, (down, up, kept) in enumerate(compressed):
                downs[n].extend(down)
                ups[n].extend(up)
                energies.extend(kept)
        layers = run(
            lambda: {
                path: LoraLayer(
                    torch.cat(downs[n]).to(torch.bfloat16), torch.cat(ups[n], 1).to(torch.bfloat16)
                )
                for n, path in enumerate(self.paths)
            }
        )
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
        number = 0
        for keys, _ in self._write(sequences, 1):
            for rows in zip(*keys, strict=True):
                yield torch.stack(rows)[:, : len(sequences[number])]
                number += 1

    def _write(self, sequences: Sequence[list[int]], together: int) -> Iterator[Written]:
        """Yield keys and values of the chunks' tokens, some groups of `together` at a time."""
        size = max(1, _BATCH_TOKENS // (max(map(len, sequences)) * together)) * together
        for start in range(0, len(sequences), size):
            yield self._base.lock.run(partial(self._written, sequences[start : start + size]))

    def _written(self, batch: Sequence[list[int]]) -> Written:
        ids, mask = padded(batch, self._base.device)
        with torch.inference_mode():
            return write(self._base, self._network, ids, mask, self.task_adapter, self._tower)


def write(
    base: BaseModel,
    network: AssociativeHypernetwork,
    ids: Tensor,
    mask: Tensor,
    task_adapter: Adapter,
    tower: Adapter | None,
) -> Written:
    """Let the network write a batch of chunks.

    Gradients, where they are on, flow to the network and to the factors of `tower`.

    Args:
        base: The frozen model.
        network: Trained for it.
        ids: Token ids (chunks, tokens), padded on the right.
        mask: 1 for real tokens, same shape.
        task_adapter: Worn while the model reads.
        tower: Worn where it reads both ways; wanted if the network's config has a tower.

    Returns:
        Keys and values per target layer; values of padding are zero.
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
    written: Written = network(features, reading.mlp_inputs, mask)
    return written


def _compressed(
    written: Written, together: int, rank: int
) -> list[tuple[list[Tensor], list[Tensor], list[float]]]:
    """Return, by layer, the factors of each group of chunks and the energy that was kept.

    All in one turn: where many ask, each turn in the background waits for eight of theirs.
    """
    layers = []
    for keys, values in zip(*written, strict=True):
        down, up, kept = compress_batch(
            _grouped(keys, together), _grouped(values, together).mT, rank
        )
        layers.append((_padded(down, rank, 1), _padded(up, rank, 2), kept))
    return layers


def _grouped(rows: Tensor, together: int) -> Tensor:
    """Return (groups, together * tokens, width) of (chunks, tokens, width), zeros at the end."""
    missing = -len(rows) % together
    if missing:
        rows = torch.cat([rows, rows.new_zeros(missing, *rows.shape[1:])])
    return rows.reshape(-1, together * rows.shape[1], rows.shape[2])


def _padded(factors: Tensor, rank: int, dim: int) -> list[Tensor]:
    """Return the factors of each chunk, padded with zeros to `rank` along dimension `dim`.

    A chunk of fewer tokens than `rank` has a smaller rank, but shares are of equal size.
    """
    missing = rank - factors.shape[dim]
    if missing > 0:
        shape = list(factors.shape)
        shape[dim] = missing
        factors = torch.cat([factors, factors.new_zeros(shape)], dim)
    return list(factors)
