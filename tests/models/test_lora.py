"""Adapters worn by a tiny random model: the arithmetic, and that nothing stays behind."""

import copy
from collections.abc import Iterator, Mapping, Sequence

import pytest
import torch
from torch import Tensor

from hybridqa.errors import AdapterError
from hybridqa.models.base import BaseModel
from hybridqa.models.lora import stack, worn
from hybridqa.testing import tiny_model
from hybridqa.types import Adapter, LoraLayer

DOWN, QUERY = "model.layers.1.mlp.down_proj", "model.layers.2.self_attn.q_proj"
SHAPES = {DOWN: (32, 64), QUERY: (32, 32)}


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return tiny_model()


@pytest.fixture(autouse=True)
def _untouched(base: BaseModel) -> Iterator[None]:
    before = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    yield
    for name, tensor in base.model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not any(module._forward_hooks for module in base.model.modules())
    assert not base.lock.locked()


def adapter(
    base: BaseModel, seed: int, rank: int = 3, paths: Sequence[str] = (DOWN, QUERY)
) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    layers = {
        path: LoraLayer(
            torch.randn(rank, SHAPES[path][1], generator=generator),
            torch.randn(SHAPES[path][0], rank, generator=generator),
        )
        for path in paths
    }
    return Adapter(f"adapter-{seed}", layers, base.fingerprint)


def logits(base: BaseModel, ids: Tensor, rows: Sequence[Sequence[Adapter]]) -> Tensor:
    with torch.inference_mode(), worn(base, stack(base.model, rows)) as model:
        found: Tensor = model(input_ids=ids).logits
    return found


def tokens(rows: int, count: int) -> Tensor:
    return torch.randint(2, 250, (rows, count), generator=torch.Generator().manual_seed(rows))


@pytest.mark.parametrize("count", [1, 5])
def test_a_worn_adapter_is_the_sum_of_weight_and_update(base: BaseModel, count: int) -> None:
    one, other = adapter(base, 1), adapter(base, 2, rank=5, paths=[DOWN])
    merged = copy.deepcopy(base.model)
    for each in (one, other):
        for path, layer in each.layers.items():
            merged.get_submodule(path).weight += layer.up @ layer.down  # type: ignore[operator]
    ids = tokens(1, count)

    found = logits(base, ids, [(one, other)])

    torch.testing.assert_close(found, merged(input_ids=ids).logits, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found, logits(base, ids, [()]), atol=0.1)


@pytest.mark.parametrize("count", [1, 5])
def test_every_row_wears_its_own(base: BaseModel, count: int) -> None:
    one, other, small = adapter(base, 1), adapter(base, 2, rank=5), adapter(base, 3, paths=[QUERY])
    rows: list[tuple[Adapter, ...]] = [(one,), (), (other, small), (small, one), (one,)]
    ids = tokens(len(rows), count)

    together = logits(base, ids, rows)

    for n, row in enumerate(rows):
        alone = logits(base, ids[n : n + 1], [row])
        torch.testing.assert_close(together[n : n + 1], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("count", [1, 5])
def test_half_precision_differs_by_rounding_only(count: int) -> None:
    exact = tiny_model()
    rounded = tiny_model()
    rounded.model.bfloat16()
    row, ids = (adapter(exact, 1),), tokens(2, count)

    difference = logits(rounded, ids, [row, row]).float() - logits(exact, ids, [row, row])

    assert float(difference.abs().max()) < 0.05 * float(logits(exact, ids, [row, row]).abs().max())


def test_gradients_reach_the_factors(base: BaseModel) -> None:
    student = adapter(base, 1)
    factors = [factor for layer in student.layers.values() for factor in (layer.down, layer.up)]
    for factor in factors:
        factor.requires_grad_()

    with worn(base, stack(base.model, [(student,), ()])) as model:
        model(input_ids=tokens(2, 5)).logits[0].square().sum().backward()

    assert all(factor.grad is not None and factor.grad.abs().sum() > 0 for factor in factors)
    assert all(parameter.grad is None for parameter in base.model.parameters())


def test_nothing_is_left_after_an_error(base: BaseModel) -> None:
    def fail() -> None:
        with worn(base, stack(base.model, [(adapter(base, 1),)])):
            assert base.lock.locked()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({"model.layers.9.mlp.down_proj": (32, 64)}, "no linear layer `model.layers.9"),
        ({"model.norm": (32, 32)}, "no linear layer `model.norm`"),
        ({DOWN: (32, 32)}, "the layer is 32 x 64"),
    ],
)
def test_what_does_not_fit_is_named(
    base: BaseModel, layers: Mapping[str, tuple[int, int]], message: str
) -> None:
    misfit = Adapter(
        "misfit",
        {p: LoraLayer(torch.zeros(1, i), torch.zeros(o, 1)) for p, (o, i) in layers.items()},
        base.fingerprint,
    )

    with pytest.raises(AdapterError, match=message):
        stack(base.model, [(), (misfit,)])
