"""Internalize a document by one forward pass per chunk of the associative hypernetwork."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from hybridqa.errors import DocumentTooLongError, InternalizeError
from hybridqa.internalize.checkpoint import load_checkpoint
from hybridqa.internalize.compress import compress, compress_dense
from hybridqa.internalize.hypernetwork import AssociativeHypernetwork
from hybridqa.models.base import BaseModel
from hybridqa.models.capture import read
from hybridqa.stores.peft_folder import adapter_id, document_origin
from hybridqa.stores.task_adapters import load_task_adapter
from hybridqa.types import Adapter, Chunk, Document, Internalized, LoraLayer

TASK_ADAPTER = "task_adapter"
"""Folder in a checkpoint with the adapter that was trained together with the network."""

_BATCH_TOKENS = 2048

Written = tuple[list[Tensor], list[Tensor]]
"""Keys (tokens, d_in) and values (tokens, d_out), one of each per target layer."""


class AssociativeInternalizer:
    """An `Internalizer`: chunks are read one by one, their updates summed and compressed."""

    name = "associative"

    def __init__(
        self,
        base: BaseModel,
        network: AssociativeHypernetwork,
        task_adapter: Adapter,
        network_hash: str,
        rank: int,
        max_chunks: int,
    ) -> None:
        """Wire the pieces; `from_checkpoint` loads them.

        Args:
            base: The model that will wear the adapters.
            network: Trained for `base`.
            task_adapter: Trained together with the network, to be worn under its adapters.
            network_hash: Of the network's checkpoint.
            rank: That adapters are compressed to.
            max_chunks: Longer documents are refused.
        """
        self._base, self._network, self.task_adapter = base, network, task_adapter
        self._rank, self._max_chunks = rank, max_chunks
        settings = f"{network_hash}|{task_adapter.id}|{rank}"
        self.fingerprint = hashlib.sha256(settings.encode()).hexdigest()
        self._paths = [f"model.layers.{n}.mlp.down_proj" for n in network.config.layers]

    @classmethod
    def from_checkpoint(
        cls, folder: Path, base: BaseModel, rank: int, max_chunks: int
    ) -> AssociativeInternalizer:
        """Load `folder` (with its co-trained task adapter).

        Raises:
            ModelError: Not a checkpoint, or trained with another base model.
        """
        network, digest = load_checkpoint(folder, base.fingerprint, base.dtype)
        task_adapter = load_task_adapter(folder / TASK_ADAPTER, base.fingerprint)
        return cls(base, network.to(base.device), task_adapter, digest, rank, max_chunks)

    def internalize(self, document: Document, chunks: Sequence[Chunk]) -> Internalized:
        """Return the adapter of a document; see `protocols.Internalizer`."""
        began = time.perf_counter()
        if not chunks:
            raise InternalizeError(
                f"Document `{document.id}` has no chunks. Ingest a document with some text."
            )
        if len(chunks) > self._max_chunks:
            # Chunks are balanced, so the longest tells the document's length well enough.
            longest = max(len(self._tokens(chunk)) for chunk in chunks[:8])
            raise DocumentTooLongError(
                document.id, len(chunks) * longest, self._max_chunks * longest
            )
        layers, energies = {}, []
        for path, (layer, energy) in zip(self._paths, self._compressed(chunks), strict=True):
            layers[path] = _half(layer)
            energies.append(energy)
        origin = document_origin(document.id, document.content_hash)
        return Internalized(
            adapter=Adapter(
                adapter_id(layers, self._base.fingerprint, origin), layers, self._base.fingerprint
            ),
            task_adapter=self.task_adapter,
            rank=max(layer.down.shape[0] for layer in layers.values()),
            energy=sum(energies) / len(energies),
            chunks=len(chunks),
            seconds=time.perf_counter() - began,
        )

    def _compressed(self, chunks: Sequence[Chunk]) -> list[tuple[LoraLayer, float]]:
        """Sum the updates of all chunks and compress each layer's.

        Few tokens: factors are kept and compressed exactly. Many: updates are accumulated
        densely, so that memory does not grow with the document.
        """
        sequences = [self._tokens(chunk) for chunk in chunks]
        config = self._network.config
        few = sum(map(len, sequences)) < min(config.hidden, config.intermediate)
        count = len(config.layers)
        if few:
            written = list(self._write(sequences))
            return [
                compress(
                    torch.cat([keys[n] for keys, _ in written]),
                    torch.cat([values[n] for _, values in written]).T,
                    self._rank,
                )
                for n in range(count)
            ]
        deltas = [
            torch.zeros(config.hidden, config.intermediate, device=self._base.device)
            for _ in range(count)
        ]
        for keys, values in self._write(sequences):
            for n, delta in enumerate(deltas):
                delta += values[n].T @ keys[n]
        return [compress_dense(delta, self._rank) for delta in deltas]

    def _write(self, sequences: Sequence[list[int]]) -> Iterator[Written]:
        """Yield keys and values of the chunks' tokens, a batch of chunks at a time."""
        size = max(1, _BATCH_TOKENS // max(map(len, sequences)))
        for start in range(0, len(sequences), size):
            batch = sequences[start : start + size]
            longest = max(map(len, batch))
            device = self._base.device
            ids = torch.tensor([s + [0] * (longest - len(s)) for s in batch], device=device)
            mask = torch.tensor(
                [[1] * len(s) + [0] * (longest - len(s)) for s in batch], device=device
            )
            reading = read(self._base, ids, mask, self._network.config.layers, [self.task_adapter])
            with torch.inference_mode():
                keys, values = self._network(
                    (reading.embeddings, reading.entering, reading.leaving),
                    reading.mlp_inputs,
                    mask,
                )
            real = mask.bool()
            yield [k[real] for k in keys], [v[real] for v in values]

    def _tokens(self, chunk: Chunk) -> list[int]:
        tokenizer = self._base.tokenizer
        encoded = tokenizer(chunk.text, add_special_tokens=False, split_special_tokens=True)
        ids: list[int] = encoded["input_ids"]
        return ids


def _half(layer: LoraLayer) -> LoraLayer:
    """Store factors in bfloat16: half the bytes, and what the model computes in anyway."""
    return LoraLayer(layer.down.to(torch.bfloat16), layer.up.to(torch.bfloat16))
