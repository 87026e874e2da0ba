"""Small random checkpoints in the layout of Doc-to-LoRA's published ones, and models for them."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, make_dataclass
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from peft import LoraConfig
from torch import Tensor
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from hybridqa.models.base import BaseModel
from hybridqa.testing import tiny_model

WIDTH, INNER, LAYERS = 32, 48, 4
LATENT, LATENTS, RANK, BLOCKS = 16, 5, 3, 2
ALPHA = 2 * RANK**1.5


@dataclass(frozen=True)
class Family:
    """A kind of model, and what its chat template puts around a document."""

    hub_name: str
    template: str
    before: str
    after: str

    def model(self) -> BaseModel:
        base = tiny_model()
        base.tokenizer.chat_template = self.template
        shape: dict[str, Any] = {
            "hidden_size": WIDTH,
            "intermediate_size": INNER,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "vocab_size": len(base.tokenizer),
            "max_position_embeddings": 4096,
            "initializer_range": 0.2,
            "attn_implementation": "eager",
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 1,
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            model: Any
            if "gemma" in self.hub_name:
                model = Gemma2ForCausalLM(Gemma2Config(**shape, query_pre_attn_scalar=8))
            elif "mistral" in self.hub_name:
                model = MistralForCausalLM(MistralConfig(**shape))
            else:
                model = Qwen3ForCausalLM(Qwen3Config(**shape))
        model = model.eval().requires_grad_(False)
        return BaseModel(self.hub_name, f"tiny {self.hub_name}", model, base.tokenizer)


GEMMA = Family(  # refuses a system message
    "google/gemma-2-2b-it",
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<turn>{{ m.role }}\n{{ m.content | trim }}<end>\n{% endfor %}"
    "{% if add_generation_prompt %}<turn>model\n{% endif %}",
    "<|im_start|><turn>user\n\n\n",
    "<end>\n<turn>model\n",
)
MISTRAL = Family(  # puts it before the user's first
    "mistralai/Mistral-7B-Instruct-v0.2",
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{% set system, rest = messages[0]['content'] + '\n\n', messages[1:] %}"
    "{% else %}{% set system, rest = '', messages %}{% endif %}"
    "{% for m in rest %} [INST] {{ system if loop.first else '' }}{{ m.content }} [/INST]"
    "{% endfor %}",
    "<|im_start|> [INST] \n\n",
    " [/INST]",
)
QWEN = Family(  # gives it a turn of its own
    "Qwen/Qwen3-4B-Instruct-2507",
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "<|im_start|>system\n<|im_end|>\n<|im_start|>user\n",
    "<|im_end|>\n<|im_start|>assistant\n",
)
SIZES = {"down_proj": (INNER, WIDTH), "q_proj": (WIDTH, 4 * 8), "up_proj": (WIDTH, INNER)}


def published_state(
    encoder: str, modules: Sequence[str] = ("down_proj",), self_attentions: int = 0
) -> OrderedDict[str, Any]:
    """Return random tensors under their names, large enough to matter in every place."""
    queries = len(modules) * RANK * (1 if encoder == "per_layer_activations" else LAYERS)
    shapes: dict[str, tuple[int, ...]] = {}
    trunk = "aggregator.perceiver."
    for proj in ("gate_proj", "up_proj"):
        shapes[f"{trunk}modality_projection.{proj}.weight"] = (4 * WIDTH, WIDTH)
    shapes[f"{trunk}modality_projection.down_proj.weight"] = (LATENT, 4 * WIDTH)
    encoders = [True, *[False] * self_attentions] * BLOCKS
    for part, latents, layers in (("encoder", LATENTS, encoders), ("decoder", queries, [True])):
        shapes[f"{trunk}{part}.latents_q"] = (latents, LATENT)
        shapes[f"{trunk}{part}.layernorm.weight"] = (LATENT,)
        for n, crosses in enumerate(layers):
            layer = f"{trunk}{part}.layers.{n}."
            for norm in (
                "input_latents_layernorm",
                *(["input_context_layernorm"] if crosses else []),
                "post_attention_layernorm",
                "pre_ff_layernorm",
                "post_ff_layernorm",
            ):
                shapes[f"{layer}{norm}.weight"] = (LATENT,)
            shapes[f"{layer}self_attn.q_proj.weight"] = (16 * 128, LATENT)
            shapes[f"{layer}self_attn.k_proj.weight"] = (4 * 128, LATENT)
            shapes[f"{layer}self_attn.v_proj.weight"] = (4 * 128, LATENT)
            shapes[f"{layer}self_attn.o_proj.weight"] = (LATENT, 16 * 128)
            for proj in ("gate_proj", "up_proj"):
                shapes[f"{layer}mlp.{proj}.weight"] = (4 * LATENT, LATENT)
            shapes[f"{layer}mlp.down_proj.weight"] = (LATENT, 4 * LATENT)
    block = "layers.0.layers."
    for side in ("weight", "bias"):
        shapes[f"{block}0.{side}"] = shapes[f"{block}4.{side}"] = (LATENT,)
    shapes[f"{block}1.weight"] = (LAYERS, LATENT, 4 * LATENT)
    shapes[f"{block}1.bias"] = (1, LAYERS, 1, 1, 4 * LATENT)
    shapes[f"{block}3.weight"] = (LAYERS, 4 * LATENT, LATENT)
    shapes[f"{block}3.bias"] = (1, LAYERS, 1, 1, LATENT)
    widest = max(sum(SIZES[m]) for m in modules)
    several = (len(modules),) if len(modules) > 1 else ()
    shapes["head.weight"] = (LAYERS, *several, LATENT, widest)
    for m in modules:
        shapes[f"bias_A.{m}"] = (LAYERS, RANK, SIZES[m][0])
        shapes[f"bias_B.{m}"] = (LAYERS, RANK, SIZES[m][1])
        shapes[f"scaler_A.{m}"] = shapes[f"scaler_B.{m}"] = (1, LAYERS, RANK, 1)
    generator = torch.Generator().manual_seed(3)
    state: OrderedDict[str, Any] = OrderedDict()
    for name, shape in shapes.items():
        tensor = torch.randn(shape, generator=generator)
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            tensor = tensor * 0.5  # sharp attention, so that which token is read matters
        elif "head" in name or name.startswith("bias_"):
            tensor = tensor * 0.1
        elif tensor.ndim > 1 and "latents" not in name and "scaler" not in name:
            tensor = tensor * 0.2
        state[name] = tensor
    return state


def write_published(
    path: Path,
    family: Family,
    encoder: str,
    modules: Sequence[str] = ("down_proj",),
    self_attentions: int = 0,
    changes: Mapping[str, Any] | None = None,
) -> OrderedDict[str, Any]:
    """Write a checkpoint as their trainer does, and return its tensors.

    Args:
        path: Of the pickle.
        family: That it is for.
        encoder: Their `ctx_encoder_type`.
        modules: Their `target_modules`.
        self_attentions: Their `num_self_attn_per_block`.
        changes: Entries that replace those of the state dict; `None` takes one out.
    """
    state = published_state(encoder, modules, self_attentions)
    tensors = OrderedDict(state)
    lora = LoraConfig(
        r=RANK,
        lora_alpha=ALPHA,  # type: ignore[arg-type]  # theirs is no whole number either
        target_modules=list(modules),
        task_type="CAUSAL_LM",
        base_model_name_or_path=family.hub_name,
    )
    with their_classes() as make:
        aggregator = make["AggregatorConfig"](
            aggregator_type=make["AGGREGATOR_TYPE"]("perceiver"),
            num_layers=LAYERS,
            num_modules=len(modules),
            num_extra_modules=0,
            output_size=LATENT,
            feature_size=WIDTH,
            pooling_type="mean",
            num_latent_factor=8,
            lora_r=RANK,
            per_rank_gen=True,
            n_latent_queries=LATENTS,
            num_blocks=BLOCKS,
            num_self_attn_per_block=self_attentions,
            shared_weights=False,
            layer_to_layer_ctx_encoder=encoder == "per_layer_activations",
        )
        state["base_model_name_or_path"] = family.hub_name
        state["hypernet_config"] = make["HypernetConfig"](
            latent_size=LATENT,
            use_light_weight_lora=False,
            light_weight_latent_size=128,
            per_rank_gen=True,
            use_per_rank_bias=False,
            use_bias=True,
            per_layer_processing=True,
            use_token_mixing=False,
            num_pre_head_layers=1,
            dropout_rate=0.0,
            lora_config=lora,
            extra_modules=None,
            base_hidden_size=WIDTH,
            layer_indices=torch.arange(LAYERS),
            feature_sizes=(
                {m: SIZES[m][0] for m in modules},
                {m: SIZES[m][1] for m in modules},
            ),
            aggregator_config=aggregator,
        )
        state["ctx_encoder_args"] = make["CtxEncoderArguments"](
            ctx_encoder_model_name_or_path=family.hub_name,
            ctx_encoder_type=encoder,
            layer_idx=LAYERS // 4,
            quantize_ctx_encoder=False,
            ctx_encoder_last_layer=None,
        )
        for name, value in (changes or {}).items():
            where, _, attribute = name.partition("@")
            if attribute:
                inner = {"aggregator_config": aggregator, "lora_config": lora}
                setattr(inner.get(where, state.get(where)), attribute, value)
            elif value is None:
                del state[name]
            else:
                state[name] = value
        state._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
        torch.save(state, path)
    return tensors


@contextmanager
def their_classes() -> Iterator[dict[str, Any]]:
    """Lend classes that are pickled under the names of theirs; afterwards nobody knows them."""
    names: dict[str, list[str]] = {
        "ctx_to_lora": [],
        "ctx_to_lora.modeling": [],
        "ctx_to_lora.modeling.hypernet": ["HypernetConfig"],
        "ctx_to_lora.modeling.aggregator": ["AggregatorConfig", "AGGREGATOR_TYPE"],
        "ctx_to_lora.configs": ["CtxEncoderArguments"],
    }
    made: dict[str, Any] = {}
    for module, classes in names.items():
        sys.modules[module] = ModuleType(module)
        for name in classes:
            if name == "AGGREGATOR_TYPE":
                cls: Any = Enum(name, {"PERCEIVER": "perceiver"}, module=module, type=str)
            else:
                cls = _open_dataclass(name, module)
            made[name] = cls
            setattr(sys.modules[module], name, cls)
    try:
        yield made
    finally:
        for module in names:
            del sys.modules[module]


def _open_dataclass(name: str, module: str) -> Any:
    """Return a dataclass that takes any fields: how it is made leaves no trace in a pickle."""
    cls: Any = make_dataclass(name, [], namespace={"__module__": module})
    cls.__init__ = lambda self, **fields: self.__dict__.update(fields)
    return cls


def numbers(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a state dict."""
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}
