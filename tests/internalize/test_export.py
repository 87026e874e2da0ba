from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from hybridqa.errors import AdapterError, AdapterMismatchError
from hybridqa.internalize.export import export_stack
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
