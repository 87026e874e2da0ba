"""What many threads ask for at the same time is computed in one batch."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from hybridqa.models.together import BatchingEmbedder, BatchingLocator, Together
from hybridqa.protocols import Look
from hybridqa.testing import FakeEmbedder, tiny_locator


class Slow:
    """Doubles numbers; the first call waits until it is let go. 13 is wrong."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.calls.append(list(numbers))
        self.begun.set()
        self.go.wait(10)
        if 13 in numbers:
            raise ValueError("13 is wrong")
        return [2 * number for number in numbers]


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def doubled(slow: Slow) -> Iterator[Together[int, int]]:
    together = Together("test", slow, 4)
    yield together
    slow.go.set()
    together.close()


def asked_at_once(doubled: Together[int, int], slow: Slow, numbers: Sequence[int]) -> list[object]:
    """Return results or errors; all but the first wait while that is computed."""

    def ask(number: int) -> object:
        try:
            return doubled([number])
        except ValueError as exc:
            return str(exc)

    with ThreadPoolExecutor(len(numbers)) as pool:
        first = pool.submit(ask, numbers[0])
        assert slow.begun.wait(10)
        others = [pool.submit(ask, number) for number in numbers[1:]]
        while len(doubled._waiting) < len(others):
            pass
        slow.go.set()
        return [future.result() for future in [first, *others]]


def test_what_waits_is_computed_in_one_call(doubled: Together[int, int], slow: Slow) -> None:
    assert asked_at_once(doubled, slow, range(7)) == [[2 * n] for n in range(7)]

    assert slow.calls[0] == [0]
    assert [len(call) for call in slow.calls] == [1, 4, 2]


def test_who_asks_wrongly_is_told_alone(doubled: Together[int, int], slow: Slow) -> None:
    found = asked_at_once(doubled, slow, [1, 2, 13, 3])

    assert found == [[2], [4], "13 is wrong", [6]]


def test_nothing_is_asked_of_what_is_closed(doubled: Together[int, int], slow: Slow) -> None:
    slow.go.set()
    assert doubled([1, 2]) == [2, 4]
    assert doubled([]) == []
    doubled.close()

    with pytest.raises(RuntimeError, match="closed"):
        doubled([1])


def test_questions_are_embedded_as_before() -> None:
    plain = FakeEmbedder()
    batching = BatchingEmbedder(plain, 4)
    try:
        for texts in ([], ["one"], ["one", "two", "three"]):
            assert np.array_equal(batching.embed(texts), plain.embed(texts))
        assert batching.dimension == plain.dimension
        assert batching.fingerprint == plain.fingerprint
    finally:
        batching.close()


def test_answers_are_located_as_before() -> None:
    plain = tiny_locator()
    batching = BatchingLocator(plain, 4)
    texts = ["Tea is at four. The lamp weighs a lot.", "The kettle is in the cellar."]
    looks = [Look(question, text) for text in texts for question in ("When?", "Where is it?")]
    alone = [plain.locate([look])[0][0] for look in looks]
    try:
        for found in (batching.locate(looks), [batching.locate([each])[0] for each in looks]):
            for (one,), other in zip(found, alone, strict=True):
                assert (one.start, one.end) == (other.start, other.end)
                assert one.share == pytest.approx(other.share, abs=1e-5)
        assert batching.fingerprint == plain.fingerprint
    finally:
        batching.close()
