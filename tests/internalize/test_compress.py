"""Low-rank forms against torch's own singular value decomposition."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hybridqa.internalize.compress import (
    by_cholesky,
    by_householder,
    compress,
    compress_batch,
    stack_layers,
    take_shares,
)
from hybridqa.types import Adapter, LoraLayer

SHAPES = [(5, 48, 32), (32, 48, 32), (70, 48, 32), (70, 24, 64)]
"""Terms, d_in, d_out."""


def factors(
    terms: int, d_in: int, d_out: int, seed: int = 0, decay: float = 0.9
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    down = torch.randn(terms, d_in, generator=generator) * decay ** torch.arange(terms)[:, None]
    return down, torch.randn(d_out, terms, generator=generator)


def optimum(delta: Tensor, rank: int) -> tuple[Tensor, float]:
    u, s, vh = torch.linalg.svd(delta.double(), full_matrices=False)
    best = (u[:, :rank] * s[:rank]) @ vh[:rank]
    return best.float(), float(s[:rank].square().sum() / s.square().sum())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rank", [1, 4, 100])
def test_one_update_is_compressed_optimally(shape: tuple[int, int, int], rank: int) -> None:
    down, up = factors(*shape)
    best, energy = optimum(up @ down, rank)

    layer, kept = compress(down, up, rank)

    assert layer.down.shape[0] == layer.up.shape[1] == min(rank, *shape)
    torch.testing.assert_close(layer.up @ layer.down, best, rtol=1e-3, atol=1e-3)
    assert kept == pytest.approx(energy, abs=1e-5)
    torch.testing.assert_close(layer.down.norm(dim=1), layer.up.norm(dim=0), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rank", [1, 4, 16, 100])
@pytest.mark.parametrize("decay", [0.7, 0.9, 0.97])
def test_many_updates_are_compressed_nearly_optimally(
    shape: tuple[int, int, int], rank: int, decay: float
) -> None:
    pairs = [factors(*shape, seed=seed, decay=decay) for seed in range(3)]
    down, up = (torch.stack(side) for side in zip(*pairs, strict=True))

    downs, ups, energies = compress_batch(down, up, rank)

    assert downs.shape == (3, min(rank, *shape), shape[1])
    assert ups.shape == (3, shape[2], min(rank, *shape))
    for n, (d, u) in enumerate(pairs):
        best = optimum(u @ d, rank)[1]
        error = (u @ d - ups[n] @ downs[n]).square().sum() / (u @ d).square().sum()
        assert energies[n] == pytest.approx(best, abs=1e-3)
        assert 1 - float(error) == pytest.approx(best, abs=1e-3)


def test_the_company_of_an_update_does_not_matter() -> None:
    pairs = [factors(20, 48, 32, seed=seed) for seed in range(4)]
    together = compress_batch(
        torch.stack([d for d, _ in pairs]), torch.stack([u for _, u in pairs]), 4
    )

    for n, (d, u) in enumerate(pairs):
        downs, ups, energies = compress_batch(d[None], u[None], 4)
        torch.testing.assert_close(
            ups[0] @ downs[0], together[1][n] @ together[0][n], rtol=1e-3, atol=1e-3
        )
        assert energies[0] == pytest.approx(together[2][n], abs=1e-5)


def test_terms_of_zeros_change_nothing() -> None:
    down, up = factors(20, 48, 32)
    padded = torch.cat([down, torch.randn(6, 48)]), torch.cat([up, torch.zeros(32, 6)], 1)

    downs, ups, energies = compress_batch(padded[0][None], padded[1][None], 4)

    best, energy = optimum(up @ down, 4)
    torch.testing.assert_close(ups[0] @ downs[0], best, rtol=0.02, atol=0.05)
    assert energies[0] == pytest.approx(energy, abs=1e-3)


def test_half_precision_loses_little() -> None:
    down, up = (each.bfloat16() for each in factors(70, 48, 32))

    downs, ups, energies = compress_batch(down[None], up[None], 16)

    _, energy = optimum(up.float() @ down.float(), 16)
    assert downs.dtype == ups.dtype == torch.float32
    error = (up.float() @ down.float() - ups[0] @ downs[0]).square().sum()
    kept = 1 - float(error / (up.float() @ down.float()).square().sum())
    assert kept == pytest.approx(energy, abs=1e-3)
    assert energies[0] == pytest.approx(kept, abs=5e-3)


def test_an_update_of_zeros_keeps_everything() -> None:
    layer, kept = compress(torch.zeros(3, 8), torch.zeros(4, 3), 2)
    downs, ups, energies = compress_batch(torch.zeros(2, 3, 8), torch.zeros(2, 4, 3), 2)

    assert kept == 1.0
    assert energies == [1.0, 1.0]
    for product in (layer.up @ layer.down, *(ups @ downs)):
        assert torch.equal(product, torch.zeros(4, 8))


def test_half_precision_is_taken() -> None:
    down, up = factors(20, 48, 32)

    layer, _ = compress(down.bfloat16(), up.bfloat16(), 4)
    downs, ups, _ = compress_batch(down.bfloat16()[None], up.bfloat16()[None], 4)

    assert {t.dtype for t in (layer.down, layer.up, downs, ups)} == {torch.float32}


def test_stacked_layers_add_up() -> None:
    layers = [LoraLayer(*factors(rank, 6, 5, seed=rank)) for rank in (1, 3)]

    stacked = stack_layers(layers)

    assert stacked.down.shape == (4, 6)
    torch.testing.assert_close(stacked.up @ stacked.down, sum(x.up @ x.down for x in layers))


def test_shares_are_taken_out() -> None:
    parts = [LoraLayer(*factors(2, 6, 5, seed=seed)) for seed in range(3)]
    whole = Adapter("whole", {"a.b": stack_layers(parts)}, "model")

    taken = take_shares(whole, [2, 0], 3)

    expected = stack_layers([parts[0], parts[2]])
    assert torch.equal(taken.layers["a.b"].down, expected.down)
    assert torch.equal(taken.layers["a.b"].up, expected.up)
    assert (taken.model_fingerprint, take_shares(whole, [0, 1, 2], 3)) == ("model", whole)
    assert len({taken.id, whole.id, take_shares(whole, [1], 3).id}) == 3


@pytest.mark.parametrize("orthonormal", [by_householder, by_cholesky])
def test_a_basis_is_orthonormal_and_spans_the_columns(
    orthonormal: Callable[[Tensor], Tensor],
) -> None:
    generator = torch.Generator().manual_seed(0)
    columns = torch.randn(3, 40, 8, generator=generator) * torch.logspace(0, -2, 8)

    basis = orthonormal(columns)

    torch.testing.assert_close(basis.mT @ basis, torch.eye(8).expand(3, 8, 8), atol=1e-4, rtol=0)
    torch.testing.assert_close(basis @ (basis.mT @ columns), columns, atol=1e-4, rtol=0)


def test_cholesky_leaves_nothing_of_columns_that_others_span() -> None:
    column = torch.arange(1.0, 6.0)[:, None]

    basis = by_cholesky(torch.cat([column, torch.zeros_like(column)], 1))

    assert bool(basis.isfinite().all())
    torch.testing.assert_close(basis[:, 0], column[:, 0] / column.norm(), atol=1e-4, rtol=0)
    assert not basis[:, 1].any()
