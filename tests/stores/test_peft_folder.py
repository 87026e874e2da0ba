import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from hybridqa.errors import AdapterError, CorruptAdapterError, StoreError
from hybridqa.stores.peft_folder import adapter_id, read_peft, write_peft
from hybridqa.stores.task_adapters import load_task_adapter
from hybridqa.types import LoraLayer

PROJECTIONS = {"self_attn.q_proj": (32, 32), "mlp.up_proj": (32, 64), "mlp.down_proj": (64, 32)}
TOKENS = torch.arange(24).reshape(2, 12)
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=12,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=128,
    )
    model = LlamaForCausalLM(config)
    model.eval()
    return model


def layers(
    ranks: dict[str, int], dtype: torch.dtype = torch.float32, seed: int = 0
) -> dict[str, LoraLayer]:
    """Random factors for the modules of `llama`, large enough to matter."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, rank in ranks.items():
        d_in, d_out = PROJECTIONS[".".join(name.split(".")[-2:])]
        made[name] = LoraLayer(
            down=torch.randn(rank, d_in, generator=generator).to(dtype),
            up=torch.randn(d_out, rank, generator=generator).to(dtype),
        )
    return made


def every_module(rank: Callable[[int], int]) -> dict[str, int]:
    return {f"model.layers.{i}.{name}": rank(i) for i in range(12) for name in PROJECTIONS}


def add_by_hand(model: LlamaForCausalLM, factors: dict[str, LoraLayer]) -> LlamaForCausalLM:
    with torch.no_grad():
        for name, layer in factors.items():
            weight = model.get_parameter(f"{name}.weight")
            weight.add_(layer.up.float() @ layer.down.float())
    return model


def same(one: dict[str, LoraLayer], other: dict[str, LoraLayer]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(a, b) and a.dtype == b.dtype
        for name in one
        for a, b in ((one[name].down, other[name].down), (one[name].up, other[name].up))
    )


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    found = model(TOKENS).logits
    assert isinstance(found, torch.Tensor)
    return found


@pytest.mark.parametrize(
    "ranks",
    [
        {"model.layers.1.mlp.down_proj": 2, "model.layers.11.mlp.down_proj": 5},
        {"model.layers.1.mlp.down_proj": 4},  # Layer 11 must stay as it was.
        {"model.layers.11.self_attn.q_proj": 4, "model.layers.0.mlp.up_proj": 4},
        every_module(lambda i: i % 5 + 1),
        every_module(lambda i: 3),
    ],
)
def test_stock_peft_computes_what_the_factors_say(tmp_path: Path, ranks: dict[str, int]) -> None:
    factors = layers(ranks)
    write_peft(tmp_path / "adapter", factors, "some/base")

    wearing = PeftModel.from_pretrained(llama(), str(tmp_path / "adapter"))

    expected = logits(add_by_hand(llama(), factors))
    assert (expected - logits(llama())).abs().max() > 0.1
    torch.testing.assert_close(logits(wearing), expected, atol=2e-5, rtol=1e-4)
    worn = {
        name.removeprefix("base_model.model.").removesuffix(".lora_A.default")
        for name, _ in wearing.named_modules()
        if name.endswith("lora_A.default")
    }
    assert worn == set(ranks)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_is_written_is_read_bit_for_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    factors = layers(every_module(lambda i: i + 1), dtype)
    write_peft(tmp_path, factors, "some/base")

    assert same(read_peft(tmp_path), factors)


def test_views_of_shared_memory_can_be_written(tmp_path: Path) -> None:
    stacked = torch.randn(2, 64, 32)
    factors = {
        f"model.layers.{i}.mlp.up_proj": LoraLayer(down=stacked[0, :4], up=stacked[1].T[:, :4].T.T)
        for i in range(2)
    }
    factors["model.layers.0.mlp.up_proj"].up.requires_grad_()
    write_peft(tmp_path, factors, "some/base")

    assert same(read_peft(tmp_path), factors)


@pytest.mark.parametrize(
    "settings",
    [
        {"r": 4, "lora_alpha": 32},
        {"r": 4, "lora_alpha": 7, "use_rslora": True},
        {
            "r": 4,
            "lora_alpha": 6,
            "rank_pattern": {"layers.1.mlp.down_proj": 2, "up_proj": 3},
            "alpha_pattern": {r"model.layers.\d+.mlp.up_proj": 12},
        },
        {"r": 3, "lora_alpha": 6, "layers_to_transform": [1, 11], "layers_pattern": "layers"},
    ],
)
def test_adapters_that_peft_wrote_are_read(tmp_path: Path, settings: dict[str, Any]) -> None:
    config = LoraConfig(target_modules=["up_proj", "down_proj"], **settings)
    model = get_peft_model(llama(), config).eval()
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(str(tmp_path))

    found = logits(add_by_hand(llama(), read_peft(tmp_path)))

    torch.testing.assert_close(found, logits(model), atol=2e-5, rtol=1e-4)


def test_the_scaling_of_short_named_targets_is_folded_in(tmp_path: Path) -> None:
    factors = layers({f"model.layers.{i}.mlp.down_proj": 2 for i in range(3)}, torch.bfloat16)
    write_peft(tmp_path, factors, "some/base")
    edit_config(tmp_path, target_modules=["down_proj"], lora_alpha=4)

    for name, layer in read_peft(tmp_path).items():
        assert torch.equal(layer.up, factors[name].up * 2)


def edit_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | changes))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound adapter to damage."""
    write_peft(tmp_path, layers({"model.layers.1.mlp.down_proj": 2}), "some/base")
    return tmp_path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peft_type": "LOHA"}, "'LOHA'"),
        ({"use_dora": True}, "`use_dora` = True"),
        ({"bias": "lora_only"}, "`bias` 'lora_only'"),
        ({"lora_bias": True}, "`lora_bias`"),
        ({"modules_to_save": ["lm_head"]}, "`modules_to_save`"),
        ({"trainable_token_indices": [1]}, "`trainable_token_indices`"),
        ({"target_parameters": ["experts"]}, "`target_parameters`"),
        ({"layer_replication": [[0, 2]]}, "`layer_replication`"),
        ({"init_lora_weights": "pissa_niter_4"}, "'pissa_niter_4', which changes"),
        ({"alora_invocation_tokens": [1]}, "`alora_invocation_tokens`"),
        ({"invented_in_2031": {"a": 1}}, "`invented_in_2031`"),
    ],
)
def test_adapters_that_are_more_than_low_rank_factors_are_refused(
    folder: Path, change: dict[str, Any], message: str
) -> None:
    edit_config(folder, **change)
    with pytest.raises(AdapterError, match=message):
        read_peft(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"r": 3}, "says rank 3"),
        ({"r": None}, "None for `r`"),
        ({"lora_alpha": float("nan")}, "nan for `lora_alpha`"),
        ({"lora_alpha": True}, "True for `lora_alpha`"),
        ({"lora_alpha": 10**400}, "for `lora_alpha`"),
        ({"rank_pattern": {"down_proj": 4}}, "says rank 4"),
        ({"rank_pattern": {"(": 4}}, "no regular expression"),
        ({"rank_pattern": [1]}, "no JSON object"),
        ({"target_modules": ["own_proj"]}, r"`model\.layers\.1\.mlp\.down_proj`, which its"),
    ],
)
def test_settings_that_contradict_the_weights_are_refused(
    folder: Path, change: dict[str, Any], message: str
) -> None:
    edit_config(folder, **change)
    with pytest.raises(CorruptAdapterError, match=message):
        read_peft(folder)


KEY = "base_model.model.model.layers.1.mlp.down_proj.lora_{}.weight"


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        (KEY.format("A"), torch.full((2, 64), float("nan")), "NaN"),
        (KEY.format("B"), torch.full((32, 2), float("inf")), "infinite value in `up`"),
        (KEY.format("A"), torch.zeros(3, 64), r"\(3, 64\).*rank 2"),
        (KEY.format("A"), torch.zeros(2, 8, 8), r"\(2, 8, 8\)"),
        (KEY.format("A"), torch.zeros(2, 64, dtype=torch.int8), "int8"),
        (KEY.format("A").replace("down", "own"), torch.zeros(2, 64), "own_proj"),
        ("base_model.model.lm_head.weight", torch.zeros(2, 2), "`base_model.model.lm_head.weight`"),
        (KEY.format("magnitude_vector"), torch.zeros(2), "lora_magnitude_vector"),
        (KEY.format("A").replace("model.layers", "..layers"), torch.zeros(2, 64), r"\.\.layers"),
    ],
)
def test_tensors_that_are_damaged_or_foreign_are_refused(
    folder: Path, name: str, tensor: torch.Tensor, message: str
) -> None:
    save_file(load_file(folder / WEIGHTS) | {name: tensor}, folder / WEIGHTS)
    with pytest.raises(AdapterError, match=message):
        read_peft(folder)


def test_a_missing_half_is_refused(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    del tensors[KEY.format("B")]
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(CorruptAdapterError, match="no `lora_B`"):
        read_peft(folder)


def test_files_that_are_missing_cut_or_not_what_they_claim_are_refused(folder: Path) -> None:
    weights, config = folder / WEIGHTS, folder / CONFIG
    sound = weights.read_bytes()
    for data in (b"", sound[:5], sound[:100], sound[:-1], sound + b"\0", b"\xff" * 64):
        weights.write_bytes(data)
        with pytest.raises(CorruptAdapterError, match="cannot be read"):
            read_peft(folder)
    weights.unlink()
    with pytest.raises(CorruptAdapterError, match=f"no `{WEIGHTS}`"):
        read_peft(folder)
    for text in ("", "{", "[1]", "[" * 100_000, "\x00\xff"):
        config.write_text(text)
        with pytest.raises(CorruptAdapterError, match=CONFIG):
            read_peft(folder)
    config.unlink()
    with pytest.raises(CorruptAdapterError, match="no PEFT folder"):
        read_peft(folder)


def test_pickles_are_never_opened(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "adapter_model.bin").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    with pytest.raises(AdapterError, match="pickled"):
        read_peft(folder)


@pytest.mark.parametrize(
    ("name", "down", "up", "message"),
    [
        ("../evil", torch.zeros(2, 4), torch.zeros(4, 2), "no module path"),
        ("a.b", torch.zeros(2, 4), torch.zeros(4, 3), r"\(rank, d_in\)"),
        ("a.b", torch.zeros(0, 4), torch.zeros(4, 0), r"\(0, 4\)"),
        ("a.b", torch.zeros(2, 4).double(), torch.zeros(4, 2), "float64"),
        ("a.b", torch.full((2, 4), torch.nan), torch.zeros(4, 2), "NaN"),
    ],
)
def test_layers_that_are_no_adapter_are_not_written(
    tmp_path: Path, name: str, down: torch.Tensor, up: torch.Tensor, message: str
) -> None:
    with pytest.raises(AdapterError, match=message):
        write_peft(tmp_path / "out", {name: LoraLayer(down=down, up=up)}, "some/base")
    with pytest.raises(AdapterError, match="no layers"):
        write_peft(tmp_path / "out", {}, "some/base")
    assert not (tmp_path / "out").exists()


def test_an_adapter_is_never_overwritten(folder: Path) -> None:
    before = read_peft(folder)
    with pytest.raises(AdapterError, match="holds an adapter already"):
        write_peft(folder, layers({"model.layers.0.mlp.up_proj": 1}), "some/base")
    assert same(read_peft(folder), before)


LIMITED = """
import resource, sys, torch
from pathlib import Path
from hybridqa.stores.peft_folder import write_peft
from hybridqa.types import LoraLayer
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
layers = {"model.layers.0.mlp.up_proj": LoraLayer(torch.ones(32, 32), torch.ones(64, 32))}
write_peft(Path(sys.argv[1]), layers, "some/base")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs file size limits")
def test_a_full_disk_leaves_no_files(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True
    )
    assert f"{StoreError.__name__}: Cannot write the adapter `{tmp_path}`" in done.stderr
    assert "Free some disk space" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_id_depends_on_everything_but_the_order() -> None:
    ranks = {"model.layers.0.mlp.up_proj": 2, "model.layers.1.mlp.up_proj": 2}
    factors = layers(ranks)
    reference = adapter_id(factors, "model", "origin")
    swapped = dict(zip(factors, reversed(factors.values()), strict=True))
    flipped = {
        name: LoraLayer(down=layer.down.clone(), up=layer.up) for name, layer in factors.items()
    }
    flipped["model.layers.0.mlp.up_proj"].down.view(torch.uint8)[0, 0] ^= 1

    assert adapter_id(dict(reversed(factors.items())), "model", "origin") == reference
    others = [
        adapter_id(factors, "other model", "origin"),
        adapter_id(factors, "model", "other origin"),
        adapter_id(factors, "modelo", "rigin"),
        adapter_id(swapped, "model", "origin"),
        adapter_id(flipped, "model", "origin"),
        adapter_id(layers(ranks, torch.bfloat16), "model", "origin"),
    ]
    assert len({reference, *others}) == 7
    assert all(len(id_) == 64 for id_ in others)


def test_a_task_adapter_is_read_with_an_id_of_its_own(folder: Path, tmp_path: Path) -> None:
    adapter = load_task_adapter(str(folder), "model")

    assert same(dict(adapter.layers), read_peft(folder))
    assert adapter.model_fingerprint == "model"
    assert adapter.id == adapter_id(adapter.layers, "model", "task")
    assert load_task_adapter(folder, "other model").id != adapter.id


def test_importing_does_not_import_torch() -> None:
    modules = "adapters, catalog, home, peft_folder, task_adapters"
    code = f"import sys; from hybridqa.stores import {modules}; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
