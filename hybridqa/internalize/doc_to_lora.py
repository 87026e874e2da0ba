"""Internalize a document by the Perceiver hypernetwork: Doc-to-LoRA (arXiv 2602.15902).

Each chunk's LoRA stands beside the others along the rank, and the bias stands last: (K + 1) r ranks
for K chunks. The network runs in float32, as it was trained, whatever the base model's dtype.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from hybridqa.errors import DocumentTooLongError, InternalizeError, ModelError
from hybridqa.internalize.associative import TASK_ADAPTER
from hybridqa.internalize.checkpoint import load_checkpoint
from hybridqa.internalize.compress import compress
from hybridqa.internalize.perceiver import Factors, PerceiverConfig, PerceiverHypernetwork
from hybridqa.internalize.reading import chunk_ids, states_of
from hybridqa.models.base import BaseModel
from hybridqa.models.padding import padded
from hybridqa.models.targets import linear_paths
from hybridqa.stores.peft_folder import adapter_id, document_origin
from hybridqa.stores.task_adapters import load_task_adapter
from hybridqa.types import Adapter, Chunk, Document, Internalized, LoraLayer

_BATCH_TOKENS = 4096


class PerceiverInternalizer:
    """An `Internalizer`: one forward pass per batch of chunks, with chunks of its own."""

    name = "perceiver"

    def __init__(
        self,
        base: BaseModel,
        network: PerceiverHypernetwork,
        task_adapter: Adapter | None,
        network_hash: str,
        *,
        max_rank: int,
        max_chunks: int,
        low_memory: bool = False,
    ) -> None:
        """Wire the pieces; `from_checkpoint` loads them.

        Args:
            base: The model that reads the documents and will wear the adapters.
            network: Trained for `base`.
            task_adapter: Trained together with the network, if one was: worn while reading, and
                under its adapters.
            network_hash: Of the network's checkpoint.
            max_rank: Of a whole adapter; what has more is compressed to this.
            max_chunks: Of the network's own length; longer documents are refused.
            low_memory: Make one chunk and one layer at a time. The adapters are the same.

        Raises:
            ModelError: The network was made for layers that the model does not have.
        """
        self._base, self._network, self.task_adapter = base, network, task_adapter
        self._max_rank, self._max_chunks, self._low_memory = max_rank, max_chunks, low_memory
        settings = f"{network_hash}|{task_adapter and task_adapter.id}|{max_rank}"
        self.fingerprint = hashlib.sha256(settings.encode()).hexdigest()
        self._paths = target_paths(base, network.config)

    @classmethod
    def from_checkpoint(
        cls,
        folder: Path,
        base: BaseModel,
        *,
        max_rank: int,
        max_chunks: int,
        low_memory: bool = False,
    ) -> PerceiverInternalizer:
        """Load `folder`, with its co-trained task adapter if it has one.

        Raises:
            ModelError: Not a Perceiver's checkpoint, or trained with another base model.
        """
        network, digest = base.lock.run(
            partial(load_checkpoint, folder, base.fingerprint, torch.float32, PerceiverHypernetwork)
        )
        under = folder / TASK_ADAPTER
        return cls(
            base,
            network.to(base.device),
            load_task_adapter(under, base.fingerprint) if under.is_dir() else None,
            digest,
            max_rank=max_rank,
            max_chunks=max_chunks,
            low_memory=low_memory,
        )

    def internalize(self, document: Document, chunks: Sequence[Chunk]) -> Internalized:
        """Return the adapter of a document; see `protocols.Internalizer`.

        Args:
            document: Cut into chunks of the length that the network was trained on.
            chunks: Its chunks for retrieval. There must be one, else it is empty.
        """
        began = time.perf_counter()
        if not chunks:
            raise InternalizeError(
                f"Document `{document.id}` has no chunks. Ingest a document with some text."
            )
        longest = self._network.config.max_chunk_tokens
        sequences = chunk_ids(self._base, document.text, longest)
        if len(sequences) > self._max_chunks:
            raise DocumentTooLongError(
                document.id, sum(map(len, sequences)), self._max_chunks * longest
            )
        run = self._base.lock.run
        size = 1 if self._low_memory else max(1, _BATCH_TOKENS // max(map(len, sequences)))
        written = [
            run(partial(self._written, sequences[n : n + size]))
            for n in range(0, len(sequences), size)
        ]
        layers, energy = run(partial(self._joined, written))
        fingerprint = self._base.fingerprint
        origin = document_origin(document.id, document.content_hash)
        return Internalized(
            adapter=Adapter(adapter_id(layers, fingerprint, origin), layers, fingerprint),
            task_adapter=self.task_adapter,
            rank=next(iter(layers.values())).down.shape[0],
            energy=energy,
            # The bias belongs to all chunks: no part of the adapter can be worn without it.
            shares=((0, len(document.text)),),
            seconds=time.perf_counter() - began,
        )

    @torch.no_grad()
    def _written(self, batch: Sequence[list[int]]) -> Factors:
        """Return the chunks' factors, their rows side by side: (rows, width) per target."""
        ids, mask = padded(batch, self._base.device)
        worn = [self.task_adapter] if self.task_adapter else []
        states = states_of(self._base, self._network.config, ids, mask, worn)
        if not self._low_memory:
            keys, values = self._network(states, mask)
        else:
            keys, values = [], []
            for some_keys, some_values in self._network.by_layer(states, mask):
                keys += [key.cpu() for key in some_keys]
                values += [value.cpu() for value in some_values]
        return [key.flatten(0, 1) for key in keys], [value.flatten(0, 1) for value in values]

    @torch.no_grad()
    def _joined(self, written: Sequence[Factors]) -> tuple[dict[str, LoraLayer], float]:
        """Return all chunks' factors with the bias, in the dtype in which they are worn."""
        layers, energies = {}, []
        keys, values = self._network.with_bias(
            [torch.cat(parts)[None] for parts in zip(*(k for k, _ in written), strict=True)],
            [torch.cat(parts)[None] for parts in zip(*(v for _, v in written), strict=True)],
        )
        for path, (key,), (value,) in zip(self._paths, keys, values, strict=True):
            layer, energy = LoraLayer(key, value.T), 1.0
            if len(key) > self._max_rank:
                layer, energy = compress(layer.down, layer.up, self._max_rank)
            dtype = self._base.dtype
            layers[path] = LoraLayer(layer.down.to(dtype), layer.up.to(dtype))
            energies.append(energy)
        return layers, math.fsum(energies) / len(energies)


def target_paths(base: BaseModel, config: PerceiverConfig) -> list[str]:
    """Return the module path of each of `config.targets`.

    Raises:
        ModelError: The model has no such layers, or of other shapes.
    """
    paths = linear_paths(base.model, config.layers, config.modules)
    for path, (_, module) in zip(paths, config.targets, strict=True):
        weight = base.model.get_submodule(path).weight
        assert isinstance(weight, Tensor)
        wanted = (config.d_out[module], config.d_in[module])
        if tuple(weight.shape) != wanted:
            raise ModelError(
                f"The hypernetwork changes `{path}` as a layer of {wanted[0]} x {wanted[1]}, but "
                f"that of `{base.name}` is {weight.shape[0]} x {weight.shape[1]}. Load the model "
                "that it was trained with."
            )
    embeddings = base.model.get_input_embeddings().weight
    assert isinstance(embeddings, Tensor)
    width = embeddings.shape[-1]
    if width != config.hidden:
        raise ModelError(
            f"The hypernetwork reads states of width {config.hidden}, but those of `{base.name}` "
            f"have {width}. Load the model that it was trained with."
        )
    return paths
