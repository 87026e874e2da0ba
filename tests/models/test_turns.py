"""Who computes first."""

import threading
import time

import pytest

from hybridqa.models.turns import Turns, background


class Crowd:
    """Threads that wait for a turn each, and note the order in which they get it."""

    def __init__(self, turns: Turns) -> None:
        self.order: list[str] = []
        self._turns, self._threads = turns, list[threading.Thread]()

    def wait(self, name: str) -> None:
        def take() -> None:
            with self._turns:
                self.order.append(name)

        def take_behind() -> None:
            with background():
                take()

        thread = threading.Thread(target=take_behind if name == "behind" else take)
        thread.start()
        self._threads.append(thread)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(10)


def test_one_at_a_time() -> None:
    turns, inside, most = Turns(), 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(50):
            with turns:
                inside += 1
                most = max(most, inside)
                time.sleep(0)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert most == 1
    assert not turns.locked()


def test_the_foreground_goes_first() -> None:
    turns = Turns()
    crowd = Crowd(turns)
    with turns:
        crowd.wait("behind")
        time.sleep(0.02)
        for _ in range(4):
            crowd.wait("before")
        time.sleep(0.05)
    crowd.join()

    assert crowd.order == ["before"] * 4 + ["behind"]


def test_the_background_is_not_kept_out_for_ever() -> None:
    turns = Turns()
    crowd = Crowd(turns)
    with turns:
        crowd.wait("behind")
        time.sleep(0.02)
        for _ in range(20):
            crowd.wait("before")
        time.sleep(0.1)
    crowd.join()

    assert 4 < crowd.order.index("behind") < 12


def test_an_error_inside_ends_the_turn() -> None:
    turns = Turns()
    try:
        with turns:
            raise ValueError
    except ValueError:
        pass

    assert not turns.locked()


def test_who_came_first_goes_first() -> None:
    """Even where the one whose turn ended wants another at once."""
    turns, order = Turns(), list[str]()
    began = threading.Event()

    def work(name: str) -> None:
        began.set()
        order.append(name)
        time.sleep(0.01)

    def greedy() -> None:
        for _ in range(20):
            turns.run(lambda: work("greedy"))

    thread = threading.Thread(target=greedy)
    thread.start()
    began.wait(10)
    for _ in range(3):
        turns.run(lambda: work("modest"))
    thread.join(10)

    assert order.index("modest") <= 2
    assert "".join(name[0] for name in order).count("gm") == 3


def test_one_thread_computes_for_all() -> None:
    seen: list[int] = []

    def ask(turns: Turns) -> None:
        turns.run(lambda: seen.append(threading.get_ident()))

    for turns in (Turns(), Turns()):
        for thread in [threading.Thread(target=ask, args=[turns]) for _ in range(3)]:
            thread.start()
            thread.join(10)

    assert len(seen) == 6
    assert len(set(seen)) == 1
    assert threading.get_ident() not in seen


def test_work_may_take_turns_itself() -> None:
    turns = Turns()

    def inner() -> int:
        with turns:
            return turns.run(lambda: 42)

    assert turns.run(inner) == 42
    assert not turns.locked()


def test_an_error_of_the_work_is_the_callers() -> None:
    turns = Turns()
    with pytest.raises(ValueError, match="no such number"):
        turns.run(lambda: (_ for _ in ()).throw(ValueError("no such number")))

    assert turns.run(lambda: 1) == 1


def test_work_may_take_the_turns_of_another_model() -> None:
    mine, another = Turns(), Turns()

    assert mine.run(lambda: another.run(lambda: another.run(lambda: mine.run(lambda: 7)))) == 7
    assert not mine.locked()
    assert not another.locked()
