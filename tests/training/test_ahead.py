"""Batches that are made ahead are the batches that are made when asked for."""

import os

import pytest
import torch

from hybridqa.training.ahead import Ahead


def made(number: int) -> tuple[int, torch.Tensor, int]:
    return number, torch.arange(number, number + 3), os.getpid()


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_by_their_number(workers: int) -> None:
    ahead = Ahead(made, workers)

    asked = [*range(3, 8), 20, 21, 4]
    found = [ahead[number] for number in asked]

    assert [number for number, _, _ in found] == asked
    assert [rows.tolist() for _, rows, _ in found] == [[n, n + 1, n + 2] for n in asked]
    assert all((pid == os.getpid()) is (workers == 0) for _, _, pid in found)


def test_what_goes_wrong_in_making_one_is_told() -> None:
    def broken(number: int) -> int:
        raise ValueError(f"no batch {number}")

    with pytest.raises(ValueError, match="no batch 7"):
        Ahead(broken, 1)[7]
