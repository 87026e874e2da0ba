import copy
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from gguf import GGUFReader
from peft import PeftModel

from hybridqa.errors import AdapterError, AdapterMismatchError
from hybridqa.internalize.compress import compress
from hybridqa.internalize.export import GGUF, export_gguf, export_stack
from hybridqa.models.base import BaseModel
from hybridqa.models.lora import stack, worn
from hybridqa.stores.peft_folder import read_peft
from hybridqa.testing import tiny_model
from hybridqa.types import Adapter, LoraLayer

IDS = torch.arange(2, 50).reshape(2, 24)
SEVEN = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@pytest.fixture
def base() -> BaseModel:
    return tiny_model()


def adapter(
    base: BaseModel,
    modules: Sequence[str],
    rank: int,
    first_layer: int = 0,
    dtype: torch.dtype = torch.bfloat16,
    seed: int = 0,
) -> Adapter:
    """Random factors, large enough to change the logits."""
    generator = torch.Generator().manual_seed(seed)
    layers = {}
    for path, module in base.model.named_modules():
        if not isinstance(module, torch.nn.Linear) or path.split(".")[-1] not in modules:
            continue
        if int(path.split(".")[2]) >= first_layer:
            down = torch.randn(rank, module.in_features, generator=generator) * 0.2
            up = torch.randn(module.out_features, rank, generator=generator) * 0.2
            layers[path] = LoraLayer(down=down.to(dtype), up=up.to(dtype))
    return Adapter(f"adapter-{seed}", layers, base.fingerprint)


@torch.no_grad()
def worn_logits(base: BaseModel, adapters: Sequence[Adapter]) -> torch.Tensor:
    with worn(base, stack(base.model, [list(adapters)] * len(IDS))) as model:
        logits = model(IDS).logits
    assert isinstance(logits, torch.Tensor)
    return logits


@pytest.mark.parametrize(
    ("modules", "rank", "first_layer"),
    [
        pytest.param(("down_proj",), 8, 2, id="associative"),
        pytest.param(SEVEN, 6, 2, id="distillation"),
    ],
)
def test_stock_peft_computes_what_is_worn(
    base: BaseModel, tmp_path: Path, modules: Sequence[str], rank: int, first_layer: int
) -> None:
    task = adapter(base, SEVEN, rank=4, seed=1)
    document = adapter(base, modules, rank, first_layer, seed=2)
    expected = worn_logits(base, [task, document])
    plain = worn_logits(base, [])
    export_stack(tmp_path / "stack", [task, document], base.name)

    with torch.no_grad():
        found = PeftModel.from_pretrained(base.model, tmp_path / "stack").eval()(IDS).logits

    assert (found - expected).abs().max() < 1e-4
    assert (worn_logits(tiny_model(), [task]) - expected).abs().max() > 0.1
    assert (plain - expected).abs().max() > 0.1


def test_one_folder_holds_the_sum_exactly(base: BaseModel, tmp_path: Path) -> None:
    task = adapter(base, SEVEN, rank=4, seed=1)
    document = adapter(base, ("down_proj",), rank=8, first_layer=2, seed=2)

    export_stack(tmp_path, [task, document], base.name)

    one = Adapter("stack", read_peft(tmp_path), base.fingerprint)
    assert one.layers["model.layers.3.mlp.down_proj"].down.shape[0] == 12
    assert one.layers["model.layers.0.mlp.down_proj"].down.shape[0] == 4
    assert {layer.down.dtype for layer in one.layers.values()} == {torch.bfloat16}
    assert (worn_logits(base, [one]) - worn_logits(base, [task, document])).abs().max() < 1e-4


def test_different_dtypes_are_written_without_loss(base: BaseModel, tmp_path: Path) -> None:
    task = adapter(base, ("down_proj",), rank=4, dtype=torch.float32, seed=1)
    document = adapter(base, ("down_proj",), rank=8, first_layer=2, seed=2)

    export_stack(tmp_path, [task, document], base.name)

    layers = read_peft(tmp_path)
    assert layers["model.layers.3.mlp.down_proj"].down.dtype == torch.float32
    first = layers["model.layers.3.mlp.down_proj"].down[:4]
    assert torch.equal(first, task.layers["model.layers.3.mlp.down_proj"].down)


def test_one_adapter_is_a_stack_too(base: BaseModel, tmp_path: Path) -> None:
    task = adapter(base, SEVEN, rank=4)

    export_stack(tmp_path, [task], base.name)

    assert read_peft(tmp_path).keys() == task.layers.keys()


def test_nothing_to_export_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="at least one"):
        export_stack(tmp_path, [], "x")


def test_adapters_of_two_models_do_not_stack(base: BaseModel, tmp_path: Path) -> None:
    other = adapter(tiny_model(seed=1), SEVEN, rank=4)

    with pytest.raises(AdapterMismatchError):
        export_stack(tmp_path, [adapter(base, SEVEN, rank=4), other], base.name)
    assert not list(tmp_path.iterdir())


def test_layers_of_other_shapes_do_not_stack(base: BaseModel, tmp_path: Path) -> None:
    path = "model.layers.0.mlp.down_proj"
    wrong = Adapter("w", {path: LoraLayer(torch.ones(1, 3), torch.ones(5, 1))}, base.fingerprint)

    with pytest.raises(AdapterError, match="down_proj"):
        export_stack(tmp_path, [adapter(base, SEVEN, rank=4), wrong], base.name)


def test_a_full_folder_is_not_overwritten(base: BaseModel, tmp_path: Path) -> None:
    export_stack(tmp_path, [adapter(base, SEVEN, rank=4)], base.name)

    with pytest.raises(AdapterError, match="holds an adapter already"):
        export_stack(tmp_path, [adapter(base, SEVEN, rank=4)], base.name)


def test_every_module_gets_the_rank_that_is_asked_for(base: BaseModel, tmp_path: Path) -> None:
    task = adapter(base, SEVEN, rank=4, seed=1)
    document = adapter(base, ("down_proj",), rank=8, first_layer=2, seed=2)
    expected = worn_logits(base, [task, document])

    export_stack(tmp_path / "wide", [task, document], base.name, rank=16)
    export_stack(tmp_path / "narrow", [task, document], base.name, rank=3)

    wide, narrow = (read_peft(tmp_path / name) for name in ("wide", "narrow"))
    assert {layer.down.shape[0] for layer in wide.values()} == {16}
    assert {layer.up.shape[1] for layer in narrow.values()} == {3}
    worn = worn_logits(base, [Adapter("wide", wide, base.fingerprint)])
    assert (worn - expected).abs().max() < 1e-4
    told = json.loads((tmp_path / "wide/adapter_config.json").read_text())
    assert (told["r"], told["rank_pattern"]) == (16, {})
    path = "model.layers.3.mlp.down_proj"
    whole = wide[path].up.float() @ wide[path].down.float()
    best, _ = compress(wide[path].down, wide[path].up, 3)
    missed = [
        (whole - up.float() @ down.float()).norm()
        for up, down in ((narrow[path].up, narrow[path].down), (best.up, best.down))
    ]
    assert missed[0] == pytest.approx(float(missed[1]), rel=0.02)


def test_llama_cpp_finds_each_module_by_its_own_name(base: BaseModel, tmp_path: Path) -> None:
    task = adapter(base, SEVEN, rank=4, seed=1)
    document = adapter(base, ("down_proj",), rank=8, first_layer=2, seed=2)

    export_gguf(tmp_path, [task, document], base)

    assert [file.name for file in tmp_path.iterdir()] == [GGUF]
    reader = GGUFReader(tmp_path / GGUF)
    told = {name: field.contents() for name, field in reader.fields.items()}
    assert (told["general.type"], told["adapter.type"]) == ("adapter", "lora")
    assert told["general.architecture"] == "llama"
    found = {tensor.name: torch.tensor(tensor.data).float() for tensor in reader.tensors}
    assert len(found) == 2 * len(task.layers)
    names = {"mlp.down_proj": "ffn_down", "self_attn.v_proj": "attn_v"}
    for path, name in names.items():
        layer = task.layers[f"model.layers.0.{path}"]
        assert torch.equal(found[f"blk.0.{name}.weight.lora_a"], layer.down.float())
        assert torch.equal(found[f"blk.0.{name}.weight.lora_b"], layer.up.float())
    assert found["blk.3.ffn_down.weight.lora_a"].shape[0] == 12
    # Within a head, llama.cpp rotates neighbours, where transformers rotates halves.
    heads, up = (
        base.model.config.num_attention_heads,
        task.layers["model.layers.0.self_attn.q_proj"].up.float(),
    )
    size = len(up) // heads
    order = [
        h * size + half * size // 2 + n
        for h in range(heads)
        for n in range(size // 2)
        for half in (0, 1)
    ]
    assert torch.equal(found["blk.0.attn_q.weight.lora_b"], up[order])


def test_other_kinds_of_models_are_refused_for_llama_cpp(base: BaseModel, tmp_path: Path) -> None:
    other = dataclasses.replace(base, model=copy.deepcopy(base.model))
    other.model.config.model_type = "gemma2"

    with pytest.raises(AdapterError, match="of the kind `gemma2`"):
        export_gguf(tmp_path, [adapter(base, SEVEN, rank=4)], other)
    assert list(tmp_path.iterdir()) == []


def test_a_file_for_llama_cpp_is_not_written_over(base: BaseModel, tmp_path: Path) -> None:
    (tmp_path / GGUF).write_text("mine")

    with pytest.raises(AdapterError, match="is there already"):
        export_gguf(tmp_path, [adapter(base, SEVEN, rank=4)], base)
    assert (tmp_path / GGUF).read_text() == "mine"
