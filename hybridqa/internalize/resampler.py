"""Learned queries that read a sequence of any length: the trunk of the Perceiver hypernetwork.

Names and order of the parts are those of Doc-to-LoRA's checkpoints (arXiv 2602.15902), whose trunk
descends from the Perceiver (Jaegle et al. 2021, arXiv 2103.03206): RMS norms before and after each
part, grouped-query attention without positions and without a causal mask, gated MLPs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_MLP_FACTOR = 4
_EPS = 1e-6


class GatedMLP(nn.Module):
    """`down(silu(gate(x)) * up(x))`; four times as wide inside as its input."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, _MLP_FACTOR * width, bias=False)
        self.up_proj = nn.Linear(width, _MLP_FACTOR * width, bias=False)
        self.down_proj = nn.Linear(_MLP_FACTOR * width, out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x)))


class Resampler(nn.Module):
    """Queries that attend to a context (and, between, to one another)."""

    def __init__(
        self,
        queries: int,
        width: int,
        blocks: int,
        self_attentions: int,
        heads: int,
        kv_heads: int,
        head_dim: int,
    ) -> None:
        """Build it with torch's usual random weights.

        Args:
            queries: Learned, and as many outputs.
            width: Of queries, context and outputs.
            blocks: Each attends to the context once.
            self_attentions: In each block, after that.
            heads: Of queries, in every attention.
            kv_heads: Of keys and values; divides `heads`.
            head_dim: Width of a head.
        """
        super().__init__()
        self.latents_q = nn.Parameter(torch.randn(queries, width))
        crossing = [True, *[False] * self_attentions] * blocks
        self.layers = nn.ModuleList(
            [_Layer(width, heads, kv_heads, head_dim, crosses) for crosses in crossing]
        )
        self.layernorm = nn.RMSNorm(width, eps=_EPS)

    def forward(
        self, context: Tensor, mask: Tensor | None = None, rows: slice = slice(None)
    ) -> Tensor:
        """Read a context.

        Args:
            context: Shape (batch, tokens, width).
            mask: (batch, tokens), 0 where nothing is to be read; by default all is.
            rows: Queries that are asked. Only without self-attention do they not depend on others.

        Returns:
            Shape (batch, queries, width).
        """
        visible = None if mask is None else mask.bool()[:, None, None, :]
        x = self.latents_q[rows].expand(len(context), -1, -1)
        for layer in self.layers:
            x = layer(x, context, visible)
        return torch.as_tensor(self.layernorm(x))


class _Layer(nn.Module):
    """Attention and MLP, each with a norm before and a norm after it, inside the residual."""

    def __init__(self, width: int, heads: int, kv_heads: int, head_dim: int, crosses: bool) -> None:
        super().__init__()
        self.crosses = crosses
        self.input_latents_layernorm = nn.RMSNorm(width, eps=_EPS)
        if crosses:
            self.input_context_layernorm = nn.RMSNorm(width, eps=_EPS)
        self.self_attn = _Attention(width, heads, kv_heads, head_dim)
        self.post_attention_layernorm = nn.RMSNorm(width, eps=_EPS)
        self.pre_ff_layernorm = nn.RMSNorm(width, eps=_EPS)
        self.mlp = GatedMLP(width, width)
        self.post_ff_layernorm = nn.RMSNorm(width, eps=_EPS)

    def forward(self, x: Tensor, context: Tensor, visible: Tensor | None) -> Tensor:
        asking = self.input_latents_layernorm(x)
        if self.crosses:
            found = self.self_attn(asking, self.input_context_layernorm(context), visible)
        else:
            found = self.self_attn(asking, asking, None)
        x = x + self.post_attention_layernorm(found)
        return x + torch.as_tensor(self.post_ff_layernorm(self.mlp(self.pre_ff_layernorm(x))))


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int, kv_heads: int, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.q_proj = nn.Linear(width, heads * head_dim, bias=False)
        self.k_proj = nn.Linear(width, kv_heads * head_dim, bias=False)
        self.v_proj = nn.Linear(width, kv_heads * head_dim, bias=False)
        self.o_proj = nn.Linear(heads * head_dim, width, bias=False)

    def forward(self, x: Tensor, read: Tensor, visible: Tensor | None) -> Tensor:
        q, k, v = (
            proj(source).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for proj, source in ((self.q_proj, x), (self.k_proj, read), (self.v_proj, read))
        )
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=visible, enable_gqa=True)
        return torch.as_tensor(self.o_proj(found.transpose(1, 2).flatten(-2)))
