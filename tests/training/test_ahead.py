"""Batches that are made ahead are the batches that are made when asked for."""

import threading

import pytest

from hybridqa.training.ahead import Ahead


@pytest.mark.parametrize("count", [0, 2])
def test_batches_come_by_their_number(count: int) -> None:
    makers = set()

    def made(number: int) -> str:
        makers.add(threading.current_thread())
        return f"batch {number}"

    ahead = Ahead(made, count)
    asked = [*range(3, 8), 20, 21, 4]

    assert [ahead[number] for number in asked] == [f"batch {number}" for number in asked]
    assert len(makers) == 1
    assert (makers == {threading.current_thread()}) is (count == 0)


def test_the_next_is_made_while_one_is_used() -> None:
    made = {number: threading.Event() for number in range(20)}

    Ahead(lambda number: made[number].set(), 3)[5]

    assert all(made[number].wait(10) for number in (5, 6, 7, 8))
    assert not made[9].is_set()


def test_what_goes_wrong_in_making_one_is_told() -> None:
    def broken(number: int) -> int:
        raise ValueError(f"no batch {number}")

    with pytest.raises(ValueError, match="no batch 7"):
        Ahead(broken, 1)[7]
