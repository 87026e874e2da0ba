"""Whose turn it is to compute.

Two programs of many threads on the same cores slow each other five to ten times, so within a
process one thread computes at a time. Whoever answers a question goes before whoever takes a
document in; but those who wait in the background come in now and then, however much is asked.

And it is always the same thread. Each thread that computes gets OpenMP helpers of its own, which
live as long as it does; once there are more of them than cores, libgomp sends all to sleep between
any two operations instead of letting them spin, and a batch's next token takes three times as long.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import TypeVar

_PATIENCE = 8
"""Turns of the foreground that the background lets go first."""

_in_background: ContextVar[bool] = ContextVar("in_background", default=False)

_thread = ThreadPoolExecutor(1, thread_name_prefix="compute")
_here = threading.local()
"""In that thread: the turns it computes in."""

T = TypeVar("T")


@contextmanager
def background() -> Iterator[None]:
    """Let others go first with all that this thread computes in the block."""
    token = _in_background.set(True)
    try:
        yield
    finally:
        _in_background.reset(token)


class Turns:
    """A lock that prefers the foreground; a context manager, reentrant only within `run`."""

    def __init__(self) -> None:
        self._free = threading.Condition()
        self._taken = False
        self._waiting: dict[bool, deque[object]] = {True: deque(), False: deque()}
        """In the background and before it, in the order in which they came."""
        self._passed = 0
        """Turns of the foreground since the background had one, or began to wait."""

    def locked(self) -> bool:
        """Tell whether somebody computes."""
        return self._taken

    def run(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, computed in a turn by the one thread that computes.

        That thread sees no context of the caller's, such as `torch.inference_mode`. Within `work`,
        `run` computes at once; nothing in it may wait for another thread that computes.
        """
        with self:
            if _held():
                return self._work(work)
            return _thread.submit(self._work, work).result()

    def _work(self, work: Callable[[], T]) -> T:
        outer = _held()
        _here.turns = (*outer, self)
        try:
            return work()
        finally:
            _here.turns = outer

    def __enter__(self) -> None:
        if self in _held():
            return
        behind = _in_background.get()
        with self._free:
            queue, ticket = self._waiting[behind], object()
            queue.append(ticket)
            try:
                self._free.wait_for(
                    lambda: not self._taken and queue[0] is ticket and self._is_next(behind)
                )
            except BaseException:  # Ctrl-C: somebody else may be next now
                self._free.notify_all()
                raise
            finally:
                queue.remove(ticket)
            self._taken = True
            self._passed = self._passed + 1 if self._waiting[True] and not behind else 0

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self in _held():
            return
        with self._free:
            self._taken = False
            self._free.notify_all()

    def _is_next(self, behind: bool) -> bool:
        if not self._waiting[not behind]:
            return True
        return (self._passed >= _PATIENCE) is behind


def _held() -> tuple[Turns, ...]:
    """Return the turns that this thread computes in: none, unless it is the one that computes."""
    held: tuple[Turns, ...] = getattr(_here, "turns", ())
    return held
