"""Who computes first."""

import threading
import time

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
