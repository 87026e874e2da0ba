"""Whose turn it is to compute.

Two programs of many threads on the same cores slow each other five to ten times, so within a
process one thread computes at a time. Whoever answers a question goes before whoever takes a
document in; but those who wait in the background come in now and then, however much is asked.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType

_PATIENCE = 8
"""Turns of the foreground that the background lets go first."""

_in_background: ContextVar[bool] = ContextVar("in_background", default=False)


@contextmanager
def background() -> Iterator[None]:
    """Let others go first with all that this thread computes in the block."""
    token = _in_background.set(True)
    try:
        yield
    finally:
        _in_background.reset(token)


class Turns:
    """A lock that prefers the foreground; a context manager, not reentrant."""

    def __init__(self) -> None:
        self._free = threading.Condition()
        self._taken = False
        self._waiting = {True: 0, False: 0}
        self._passed = 0
        """Turns of the foreground since the background had one, or began to wait."""

    def locked(self) -> bool:
        """Tell whether somebody computes."""
        return self._taken

    def __enter__(self) -> None:
        behind = _in_background.get()
        with self._free:
            self._waiting[behind] += 1
            try:
                self._free.wait_for(lambda: not self._taken and self._is_next(behind))
            finally:
                self._waiting[behind] -= 1
            self._taken = True
            self._passed = self._passed + 1 if self._waiting[True] and not behind else 0

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._free:
            self._taken = False
            self._free.notify_all()

    def _is_next(self, behind: bool) -> bool:
        if not self._waiting[not behind]:
            return True
        return (self._passed >= _PATIENCE) is behind
