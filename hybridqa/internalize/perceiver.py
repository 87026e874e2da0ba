"""The Perceiver hypernetwork of Doc-to-LoRA (arXiv 2602.15902): learned queries become a LoRA.

The frozen model reads a chunk of a document. For each target layer and each of the r ranks, a
learned query reads what it made of the chunk, by way of a few latents, and a head of the layer's
own turns the answer z into one row of each factor:

    [key ; value] = (z / |z|) W      key = s_A * key,  value = alpha * s_B * value

The layer's update is sum_i value_i key_i^T: a LoRA of rank r whose scaling, alpha, is part of the
values. A learned LoRA that no document changes, the bias, is added once, however many chunks a
document has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from hybridqa.config import STRICT
from hybridqa.internalize.resampler import GatedMLP, Resampler

_COUNT = Annotated[int, Field(ge=1)]
_HEAD_FACTOR = 4

Factors = tuple[list[Tensor], list[Tensor]]
"""Keys (batch, rows, d_in) and values (batch, rows, d_out), one each per target."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PerceiverConfig:
    """Shape of a checkpoint; stored beside its weights as `config.json`."""

    format_version: Annotated[int, Field(ge=1, le=1)] = 1
    model_fingerprint: str
    """Of the base model it was trained with, which also reads the documents."""

    encoder: Literal["early_exit", "per_layer_activations", "embed_only"]
    """What it reads of the base model: the output of its first `encoder_blocks` blocks (final norm
    applied), what enters each block, or what enters the first."""

    encoder_blocks: _COUNT
    """Blocks of the base model that read a document; with `per_layer_activations`, one less than
    there are target layers."""

    layers: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    """Blocks of the base model that are changed."""

    modules: Annotated[tuple[str, ...], Field(min_length=1)] = ("down_proj",)
    """Linear layers of each block that are changed, by their last name, in alphabetical order."""

    d_in: Mapping[str, _COUNT]
    """Inputs of each of `modules`."""
    d_out: Mapping[str, _COUNT]
    """Outputs of each of `modules`."""
    hidden: _COUNT
    """Width of the base model."""
    rank: _COUNT = 8
    """Of a chunk's update of one layer."""
    alpha: Annotated[float, Field(gt=0)]
    """Scaling of the updates, the bias included."""
    use_bias: bool = True
    """Whether the learned LoRA is added to each document's."""
    latent: _COUNT = 512
    """Width of the queries."""
    latents: _COUNT = 8
    """Queries that read the document; those of the target layers read them."""
    blocks: _COUNT = 8
    """Of the part that reads the document."""
    self_attentions: Annotated[int, Field(ge=0)] = 0
    """In each of them."""
    head_blocks: Annotated[int, Field(ge=0)] = 1
    """Residual blocks between queries and heads."""
    heads: _COUNT = 16
    kv_heads: _COUNT = 4
    head_dim: _COUNT = 128
    max_chunk_tokens: _COUNT = 512
    """Longer documents are cut into chunks of equal length, at most this."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if list(self.modules) != sorted(set(self.modules)):
            raise ValueError("`modules` must be in alphabetical order, each once")
        if {*self.d_in} != {*self.modules} or {*self.d_out} != {*self.modules}:
            raise ValueError("`d_in` and `d_out` must have a size for each of `modules`")
        if self.heads % self.kv_heads:
            raise ValueError("`kv_heads` must divide `heads`")
        if self.per_layer and self.encoder_blocks + 1 != len(self.layers):
            raise ValueError("`encoder_blocks` must be one less than there are `layers`")
        return self

    @property
    def per_layer(self) -> bool:
        """Whether each target layer reads states of its own."""
        return self.encoder == "per_layer_activations"

    @property
    def targets(self) -> list[tuple[int, str]]:
        """(block, module) of each target, in the order of all lists of factors."""
        return [(layer, module) for layer in self.layers for module in self.modules]


class PerceiverHypernetwork(nn.Module):
    """Maps what the frozen model computes on a chunk to keys and values per target."""

    def __init__(self, config: PerceiverConfig) -> None:
        """Build it with random weights; its updates are zero before training."""
        super().__init__()
        c, n = config, len(config.layers)
        self.config = config
        attention = {"heads": c.heads, "kv_heads": c.kv_heads, "head_dim": c.head_dim}
        self.projection = GatedMLP(c.hidden, c.latent)
        self.encoder = Resampler(c.latents, c.latent, c.blocks, c.self_attentions, **attention)
        self._queries = len(c.modules) * c.rank
        """Of one target layer."""
        total = self._queries * (1 if c.per_layer else n)
        self.decoder = Resampler(total, c.latent, 1, 0, **attention)
        self.blocks = nn.ModuleList([_Block(n, c.latent) for _ in range(c.head_blocks)])
        widest = max(c.d_in[m] + c.d_out[m] for m in c.modules)
        std = 0.5 / (c.latent + widest * c.rank) ** 0.5
        self.head = nn.Parameter(std * torch.randn(n, len(c.modules), c.latent, widest))
        self.scaler_A = _parameters({m: torch.ones(n, c.rank) for m in c.modules})
        self.scaler_B = _parameters({m: torch.zeros(n, c.rank) for m in c.modules})
        self.bias_A = _parameters(
            {
                m: 0.2 / (c.d_in[m] * c.rank) ** 0.5 * torch.randn(n, c.rank, c.d_in[m])
                for m in c.modules
            }
        )
        self.bias_B = _parameters({m: torch.zeros(n, c.rank, c.d_out[m]) for m in c.modules})

    def forward(self, states: Tensor, mask: Tensor) -> Factors:
        """Write a batch of chunks, without the bias.

        Args:
            states: What the base model makes of the chunks, as `config.encoder` says (see
                `reading.states_of`): (batch, tokens, hidden), or with `per_layer_activations`
                (batch, layers, tokens, hidden).
            mask: (batch, tokens), 1 for real tokens.

        Returns:
            Keys (batch, rank, d_in) and values (batch, rank, d_out) per target, in the order of
            `config.targets`. Row i of a target's update: `values[i].T @ keys[i]`.
        """
        batch = len(states)
        if self.config.per_layer:
            mask = mask.repeat_interleave(states.shape[1], 0)
            states = states.flatten(0, 1)
        z = self.decoder(self._read(states, mask))
        z = z.view(batch, len(self.config.layers), len(self.config.modules), self.config.rank, -1)
        return self._write(z, slice(None))

    def by_layer(self, states: Tensor, mask: Tensor) -> Iterator[Factors]:
        """Yield the same as `forward`, the targets of one layer at a time, to need less memory."""
        read = None if self.config.per_layer else self._read(states, mask)
        for n in range(len(self.config.layers)):
            if read is None:
                z = self.decoder(self._read(states[:, n], mask))
            else:
                z = self.decoder(read, rows=slice(n * self._queries, (n + 1) * self._queries))
            z = z.unflatten(1, (1, len(self.config.modules), self.config.rank))
            yield self._write(z, slice(n, n + 1))

    def bias(self) -> Factors:
        """Return the learned LoRA: keys (rank, d_in) and values (rank, d_out) per target."""
        keys, values = [], []
        for n in range(len(self.config.layers)):
            for module in self.config.modules:
                keys.append(self.bias_A[module][n])
                values.append(self.bias_B[module][n] * self.config.alpha)
        return keys, values

    def with_bias(self, keys: list[Tensor], values: list[Tensor]) -> Factors:
        """Append the bias, if there is one, to factors (documents, rows, width) of each target.

        A document of several chunks has their rows side by side; padding has values of zero.
        """
        if not self.config.use_bias:
            return keys, values
        return (
            [_appended(key, bias) for key, bias in zip(keys, self.bias()[0], strict=True)],
            [_appended(value, bias) for value, bias in zip(values, self.bias()[1], strict=True)],
        )

    def _read(self, states: Tensor, mask: Tensor) -> Tensor:
        """Return the latents' answers, (batch, latents, latent)."""
        return torch.as_tensor(self.encoder(self.projection(states.to(self.head.dtype)), mask))

    def _write(self, z: Tensor, layers: slice) -> Factors:
        """Return factors of (batch, layers, modules, rank, latent), which are some layers'."""
        for block in self.blocks:
            z = block(z, layers)
        z = z / z.norm(dim=-1, keepdim=True)
        rows = torch.einsum("blmrz,lmzw->blmrw", z, self.head[layers])
        keys, values = [], []
        for n in range(rows.shape[1]):
            for m, module in enumerate(self.config.modules):
                d_in, d_out = self.config.d_in[module], self.config.d_out[module]
                row = rows[:, n, m]
                keys.append(row[..., :d_in] * self.scaler_A[module][layers][n][:, None])
                gain = self.scaler_B[module][layers][n][:, None] * self.config.alpha
                values.append(row[..., d_in : d_in + d_out] * gain)
        return keys, values


class _Block(nn.Module):
    """A residual MLP between two norms, its matrices each target layer's own."""

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        self.input_norm = nn.LayerNorm(width)
        self.widen = _PerLayerLinear(layers, width, _HEAD_FACTOR * width)
        self.narrow = _PerLayerLinear(layers, _HEAD_FACTOR * width, width)
        self.output_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, layers: slice) -> Tensor:
        inner = F.silu(self.widen(self.input_norm(x), layers))
        return x + torch.as_tensor(self.output_norm(self.narrow(inner, layers)))


class _PerLayerLinear(nn.Module):
    """(batch, layers, modules, rank, d_in) to (..., d_out) by a matrix for each layer."""

    def __init__(self, layers: int, d_in: int, d_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter((torch.rand(layers, d_in, d_out) * 2 - 1) * (3 / d_in) ** 0.5)
        self.bias = nn.Parameter((torch.rand(layers, d_out) * 2 - 1) / d_in**0.5)

    def forward(self, x: Tensor, layers: slice) -> Tensor:
        out = torch.einsum("blmri,lio->blmro", x, self.weight[layers])
        return out + self.bias[layers][:, None, None]


def _parameters(start: Mapping[str, Tensor]) -> nn.ParameterDict:
    return nn.ParameterDict({name: nn.Parameter(tensor) for name, tensor in start.items()})


def _appended(rows: Tensor, bias: Tensor) -> Tensor:
    return torch.cat([rows, bias.to(rows).expand(len(rows), -1, -1)], dim=1)
