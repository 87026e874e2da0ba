"""The associative hypernetwork: a document's tokens become key-value pairs in chosen layers.

For each token i of a chunk and each target layer, with a_i the input of `down_proj` when the
frozen model reads the chunk, the hypernetwork writes

    key    k_i = C^-1 a_i * d + 0.03 z_i W_k      (whitened activation, plus a learned part)
    value  v_i = g_i (z_i W_v + e_i R) + c_i u_{i+1}

where z comes from a small bidirectional encoder over the model's own states, e is the token's
normalized embedding, g and c are gates and u_{i+1} is the embedding of the *next* token: a
question whose activations resemble those at token i reads out what followed it. The layer's
update is sum_i v_i k_i^T, linear attention over the document from the question's own
activations, and a LoRA of rank at most the number of tokens.

Kin to fast weight programmers (Schlag et al. 2021, arXiv 2102.11174) and, in its supervision, to
dense phrase retrieval (Lee et al. 2021, arXiv 2012.12624). Setting and name of the task follow
Doc-to-LoRA (arXiv 2602.15902), whose own hypernetwork is a Perceiver.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from hybridqa.config import STRICT

_COUNT = Annotated[int, Field(ge=1)]
_KEY_GAIN = 0.03
_VALUE_GAIN = 0.02
_SCALE_SPEED = 10.0
_NEXT_TOKEN_NORM = 24.0
_MASKED = -1e4


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AssociativeConfig:
    """Shape of a checkpoint; stored beside its weights as `config.json`."""

    format_version: Annotated[int, Field(ge=1, le=1)] = 1
    model_fingerprint: str
    """Of the base model it was trained with."""

    first_layer: Annotated[int, Field(ge=0)]
    last_layer: _COUNT
    """Target layers are `first_layer` up to, not including, `last_layer`."""

    hidden: _COUNT
    """Width of the base model."""
    intermediate: _COUNT
    """Inputs of its `down_proj`."""
    width: _COUNT = 384
    heads: _COUNT = 6
    blocks: _COUNT = 3
    whitening: _COUNT = 256
    """Directions of the stored low-rank whitening."""
    max_distance: _COUNT = 32
    """Relative positions beyond this count as this."""
    max_chunk_tokens: _COUNT = 240
    """Longest chunk in training."""
    good_chunks: _COUNT = 1
    """Chunks whose updates were measured to be as good worn together as alone."""
    state_layer: _COUNT | None = None
    """Layer whose entering states are read; by default the first target layer."""
    tower_first: Annotated[int, Field(ge=0)] = 0
    tower_last: Annotated[int, Field(ge=0)] = 0
    """Layers from `tower_first` up to, not including, `tower_last` read the chunk a second time,
    both ways, wearing the LoRA in the checkpoint's folder `tower`; none by default."""

    @property
    def layers(self) -> range:
        return range(self.first_layer, self.last_layer)

    @property
    def tower(self) -> range:
        return range(self.tower_first, self.tower_last)

    @property
    def states(self) -> list[int]:
        """Layers whose entering states are read, of the causal pass."""
        below = self.first_layer if self.state_layer is None else self.state_layer
        return [below, self.last_layer]


class AssociativeHypernetwork(nn.Module):
    """Maps what the frozen model computes on a chunk to keys and values per target layer."""

    whiten_diagonal: Tensor
    whiten_basis: Tensor
    whiten_spectrum: Tensor
    key_scale: Tensor

    def __init__(self, config: AssociativeConfig) -> None:
        super().__init__()
        c, n = config, len(config.layers)
        self.config = config
        inputs = 4 if c.tower else 3
        self.input_norms = nn.ModuleList([nn.LayerNorm(c.hidden) for _ in range(inputs)])
        self.input_proj = nn.Linear(inputs * c.hidden, c.width)
        self.distance_bias = nn.Embedding(2 * c.max_distance + 1, c.heads)
        self.blocks = nn.ModuleList([_Block(c.width, c.heads) for _ in range(c.blocks)])
        self.output_norm = nn.LayerNorm(c.width)
        # Separate tensors per layer: slices of one tensor would have full-size gradients.
        self.key = _parameters(n, c.width, c.intermediate)
        self.key_diagonal = _parameters(n, c.intermediate)
        self.value = _parameters(n, c.width, c.hidden)
        self.value_residual = _parameters(n, c.hidden, c.hidden)
        self.value_gate = nn.Linear(c.width, n)
        self.value_scale = nn.Parameter(torch.zeros(n))
        self.copy_gate = nn.Linear(c.width, n)
        self.copy_scale = nn.Parameter(torch.zeros(n))
        self.span_temperature = nn.Parameter(torch.zeros(n))
        """Log inverse temperature of the keys' span supervision; used in training only."""
        self.register_buffer("whiten_diagonal", torch.ones(n))
        self.register_buffer("whiten_basis", torch.zeros(n, c.intermediate, c.whitening))
        self.register_buffer("whiten_spectrum", torch.zeros(n, c.whitening))
        self.register_buffer("key_scale", torch.ones(n))

    def forward(
        self, features: Sequence[Tensor], activations: Sequence[Tensor], mask: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Write a batch of chunks.

        Args:
            features: Token embeddings, the hidden states of `config.states`, and with a tower
                what leaves it; each (batch, tokens, hidden).
            activations: Per target layer, inputs of `down_proj`, (batch, tokens, intermediate).
            mask: (batch, tokens), 1 for real tokens.

        Returns:
            Keys (batch, tokens, intermediate) and values (batch, tokens, hidden) per target
            layer; values of padding are zero. Row i of a layer's update: `values.T @ keys`.
        """
        pairs = list(self.by_layer(features, activations, mask))
        return [key for key, _ in pairs], [value for _, value in pairs]

    def by_layer(
        self, features: Sequence[Tensor], activations: Iterable[Tensor], mask: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the same as `forward`, one target layer at a time, to need less memory."""
        dtype = features[0].dtype
        z = self._read(features, mask)
        gate = torch.sigmoid(self.value_gate(z).float()) * mask[..., None]
        copy = torch.sigmoid(self.copy_gate(z).float()) * mask[..., None]
        own = self.input_norms[0](features[0]).to(dtype)
        following = torch.cat([features[0][:, 1:], torch.zeros_like(features[0][:, :1])], dim=1)
        following = (F.normalize(following.float(), dim=-1) * _NEXT_TOKEN_NORM).to(dtype)
        for n, a in enumerate(activations):
            scale = (self.key_scale[n] * self.key_diagonal[n]).to(dtype)
            key = self._whiten(n, a) * scale + _KEY_GAIN * (z @ self.key[n].to(dtype))
            written = z @ self.value[n].to(dtype) + own @ self.value_residual[n].to(dtype)
            gain = _VALUE_GAIN * torch.exp(self.value_scale[n].float() * _SCALE_SPEED)
            value = written * (gate[..., n : n + 1] * gain).to(dtype)
            yield (
                key,
                value + following * (self.copy_scale[n] * copy[..., n : n + 1]).to(dtype),
            )

    def _read(self, features: Sequence[Tensor], mask: Tensor) -> Tensor:
        normed = [norm(f) for norm, f in zip(self.input_norms, features, strict=True)]
        x = self.input_proj(torch.cat(normed, dim=-1))
        at = torch.arange(mask.shape[1], device=mask.device)
        reach = self.config.max_distance
        distance = (at[None] - at[:, None]).clamp(-reach, reach) + reach
        bias = self.distance_bias(distance).permute(2, 0, 1)[None]
        bias = bias.masked_fill(~mask.bool()[:, None, None, :], _MASKED)
        for block in self.blocks:
            x = block(x, bias)
        return torch.as_tensor(self.output_norm(x))

    def _whiten(self, n: int, a: Tensor) -> Tensor:
        """Apply C^-1 = b I + U diag(s) U^T without forming it."""
        basis = self.whiten_basis[n].to(a.dtype)
        inner = (a @ basis) * self.whiten_spectrum[n].to(a.dtype)
        return a * self.whiten_diagonal[n].to(a.dtype) + inner @ basis.T


class _Block(nn.Module):
    """Pre-norm bidirectional attention and MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.mlp_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(batch, tokens, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        x = x + self.out(attended.transpose(1, 2).reshape(batch, tokens, width))
        return x + torch.as_tensor(self.down(F.gelu(self.up(self.mlp_norm(x)))))


def _parameters(count: int, *shape: int) -> nn.ParameterList:
    return nn.ParameterList([nn.Parameter(torch.zeros(*shape)) for _ in range(count)])
