"""Doc-to-LoRA (arXiv 2602.15902) from its formulas, one chunk and one layer at a time.

Written to be compared with, from plain tensors under the published names; nothing of hybridqa's.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Deltas = dict[tuple[int, str], tuple[Tensor, Tensor]]
"""A (rank, d_in) and B (rank, d_out), as stored there: the update is `alpha * B.T @ A`."""

HEADS, KV_HEADS, HEAD_DIM = 16, 4, 128


def read(model: Any, ids: Sequence[int], encoder: str) -> Tensor:
    """Return what the context encoder makes of a chunk: (layers or 1, tokens, width)."""
    decoder = copy.deepcopy(model.model)
    tokens = torch.tensor([ids])
    blocks = len(decoder.layers)
    if encoder == "early_exit":
        decoder.layers = decoder.layers[: blocks // 4]
        return decoder(tokens).last_hidden_state
    if encoder == "per_layer_activations":
        decoder.layers = decoder.layers[:-1]
        return torch.cat(decoder(tokens, output_hidden_states=True).hidden_states)
    return decoder(tokens, output_hidden_states=True).hidden_states[0]


def factors(
    state: Mapping[str, Tensor],
    model: Any,
    chunks: Sequence[Sequence[int]],
    encoder: str,
    modules: Sequence[str],
    sizes: Mapping[str, tuple[int, int]],
    rank: int,
) -> Deltas:
    """Return the combined factors of a document: its chunks' ranks in order, then the bias."""
    layers = len(state["layers.0.layers.1.weight"])
    combined: Deltas = {}
    for layer in range(layers):
        for m, module in enumerate(modules):
            d_in, d_out = sizes[module]
            a, b = [], []
            for chunk in chunks:
                states = read(model, chunk, encoder)
                own = states[layer] if encoder == "per_layer_activations" else states[0]
                z = queried(state, own)
                if encoder != "per_layer_activations":
                    z = z[layer * len(modules) * rank :]
                z = residual(state, z[m * rank : (m + 1) * rank], layer)
                head = state["head.weight"][layer]
                head = head[m] if len(modules) > 1 else head
                row = (z / z.square().sum(-1, keepdim=True).sqrt()) @ head
                a.append(row[:, :d_in] * state[f"scaler_A.{module}"][0, layer])
                b.append(row[:, d_in : d_in + d_out] * state[f"scaler_B.{module}"][0, layer])
            a.append(state[f"bias_A.{module}"][layer])
            b.append(state[f"bias_B.{module}"][layer])
            combined[layer, module] = torch.cat(a), torch.cat(b)
    return combined


def queried(state: Mapping[str, Tensor], context: Tensor) -> Tensor:
    """Return the answers of all output queries, (queries, latent)."""
    trunk = {
        name.removeprefix("aggregator.perceiver."): tensor
        for name, tensor in state.items()
        if name.startswith("aggregator.")
    }
    projected = mlp(trunk, "modality_projection", context)
    return resampled(trunk, "decoder", resampled(trunk, "encoder", projected))


def resampled(w: Mapping[str, Tensor], part: str, context: Tensor) -> Tensor:
    x = w[f"{part}.latents_q"]
    n = 0
    while f"{part}.layers.{n}.self_attn.q_proj.weight" in w:
        layer = f"{part}.layers.{n}."
        asking = rms(x, w[f"{layer}input_latents_layernorm.weight"])
        norm = w.get(f"{layer}input_context_layernorm.weight")
        found = attended(
            w, f"{layer}self_attn", asking, asking if norm is None else rms(context, norm)
        )
        x = x + rms(found, w[f"{layer}post_attention_layernorm.weight"])
        inner = mlp(w, f"{layer}mlp", rms(x, w[f"{layer}pre_ff_layernorm.weight"]))
        x = x + rms(inner, w[f"{layer}post_ff_layernorm.weight"])
        n += 1
    return rms(x, w[f"{part}.layernorm.weight"])


def attended(w: Mapping[str, Tensor], name: str, x: Tensor, context: Tensor) -> Tensor:
    q = (x @ w[f"{name}.q_proj.weight"].T).view(len(x), HEADS, HEAD_DIM)
    k = (context @ w[f"{name}.k_proj.weight"].T).view(len(context), KV_HEADS, HEAD_DIM)
    v = (context @ w[f"{name}.v_proj.weight"].T).view(len(context), KV_HEADS, HEAD_DIM)
    heads = []
    for h in range(HEADS):
        group = h // (HEADS // KV_HEADS)
        weights = (q[:, h] @ k[:, group].T / math.sqrt(HEAD_DIM)).softmax(-1)
        heads.append(weights @ v[:, group])
    return torch.cat(heads, -1) @ w[f"{name}.o_proj.weight"].T


def mlp(w: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    gate = x @ w[f"{name}.gate_proj.weight"].T
    up = x @ w[f"{name}.up_proj.weight"].T
    return (gate * gate.sigmoid() * up) @ w[f"{name}.down_proj.weight"].T


def rms(x: Tensor, weight: Tensor) -> Tensor:
    return weight * x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def residual(state: Mapping[str, Tensor], z: Tensor, layer: int) -> Tensor:
    """Return the queries of one layer after the residual blocks before the head."""
    n = 0
    while f"layers.{n}.layers.0.weight" in state:
        p = f"layers.{n}.layers."
        inner = centred(z, state[f"{p}0.weight"], state[f"{p}0.bias"])
        inner = inner @ state[f"{p}1.weight"][layer] + state[f"{p}1.bias"][0, layer, 0, 0]
        inner = inner * inner.sigmoid()
        inner = inner @ state[f"{p}3.weight"][layer] + state[f"{p}3.bias"][0, layer, 0, 0]
        z = z + centred(inner, state[f"{p}4.weight"], state[f"{p}4.bias"])
        n += 1
    return z


def centred(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    x = x - x.mean(-1, keepdim=True)
    return weight * x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() + bias


def merged(model: Any, deltas: Deltas, alpha: float) -> Any:
    """Return a copy of the model with the update in its weights."""
    changed = copy.deepcopy(model)
    for (layer, module), (a, b) in deltas.items():
        block = changed.model.layers[layer]
        part = block.mlp if hasattr(block.mlp, module) else block.self_attn
        getattr(part, module).weight += alpha * b.T @ a
    return changed


def chunked(
    tokens: Sequence[int], prefix: list[int], suffix: list[int], longest: int
) -> list[list[int]]:
    """Return a document's turn in balanced pieces, each with the template around it."""
    count = math.ceil(len(tokens) / longest)
    size = math.ceil(len(tokens) / count)
    pieces = [list(tokens[n : n + size]) for n in range(0, len(tokens), size)]
    for piece in pieces[:-1]:
        piece.extend(suffix)
    return pieces[:1] + [prefix + piece for piece in pieces[1:]]
