"""Questions whose route is told before their answer."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from contextvars import copy_context

from hybridqa.engines.route import Routed
from hybridqa.engines.trace import Trace
from hybridqa.service.gate import Gate

Event = Routed | Trace | Exception
Ask = Callable[[Callable[[Routed], None]], Trace]
"""Asks a question; calls back when it is routed."""


def events(gate: Gate, tenant: str, ask: Ask) -> Callable[[float], Iterator[Event | None]]:
    """Ask in a thread, and return what tells how it goes.

    The place at the gate is given back when the work ends, whatever becomes of who listens.

    Args:
        gate: Entered at once.
        tenant: Who asks.
        ask: Does the work; what it raises is told as an event.

    Returns:
        From seconds to events: routed (again, if a document changed meanwhile), then the trace or
        an error, which is the last; `None` whenever so many seconds pass without one.

    Raises:
        OverloadedError: There is no place.
    """
    told: queue.SimpleQueue[Event] = queue.SimpleQueue()
    with ExitStack() as stack:
        stack.enter_context(gate.entered(tenant))
        kept = stack.pop_all()

    def work() -> None:
        with kept:
            try:
                event: Event = ask(told.put)
            except Exception as exc:  # told to whoever listens
                event = exc
        told.put(event)

    context = copy_context()  # of the request, for traces
    threading.Thread(target=context.run, args=(work,), name="question", daemon=True).start()

    def listen(patience_s: float) -> Iterator[Event | None]:
        while True:
            try:
                event = told.get(timeout=patience_s)
            except queue.Empty:
                yield None
                continue
            yield event
            if not isinstance(event, Routed):
                return

    return listen
