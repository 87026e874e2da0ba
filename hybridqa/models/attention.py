"""Attention on a CPU where torch's own kernel is slow: of one new token, and with gradients.

With grouped-query attention, several query heads read the same keys. Where there is a mask,
transformers (5.23) lets the query heads of a group stand in the place of several positions: the
same sum by one small matrix product. Where there is none it leaves the grouping to torch, whose
kernel on a CPU works on one query at a time: 0.29 ms instead of 0.05 ms a layer.

And backward, that kernel takes twice as long as plain products for texts of a few hundred tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

_NAME = "hybridqa_grouped"
_MASKED = -1e4


def group_heads(model: PreTrainedModel) -> None:
    """Let a model attend like this, if it attends by torch's kernel on a CPU now."""
    if model.config._attn_implementation == "sdpa" and model.device.type == "cpu":
        AttentionInterface.register(_NAME, _attend)
        AttentionMaskInterface.register(_NAME, sdpa_mask)
        model.set_attn_implementation(_NAME)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **settings: Any,  # what only transformers knows of
) -> tuple[Tensor, None]:
    batch, heads, new, width = query.shape
    groups = key.shape[1]
    if torch.is_grad_enabled() and query.requires_grad and attention_mask is not None:
        return _by_products(query, key, value, attention_mask, settings["scaling"]), None
    if new > 1 or attention_mask is not None or heads == groups or module.training:
        attended, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **settings)
        return attended, None
    grouped = F.scaled_dot_product_attention(
        query.view(batch, groups, heads // groups, width),
        key,
        value,
        scale=settings.get("scaling"),
    )
    return grouped.reshape(batch, 1, heads, value.shape[-1]), None


def _by_products(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float) -> Tensor:
    """Attend by plain matrix products; `mask` is (batch, 1, new, known), true where seen."""
    batch, heads, new, width = query.shape
    groups, known = key.shape[1:3]
    scores = (query * scaling).reshape(batch, groups, -1, width) @ key.mT
    scores = scores.view(batch, groups, -1, new, known).masked_fill(~mask[:, :, None], _MASKED)
    attended = scores.softmax(-1).view(batch, groups, -1, known) @ value
    return attended.view(batch, heads, new, width).transpose(1, 2)
