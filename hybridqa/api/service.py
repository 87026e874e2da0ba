"""What all routes work with."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from hybridqa.config import ServeConfig
from hybridqa.engines.trace import Trace
from hybridqa.service.gate import Gate
from hybridqa.service.tenants import Tenants
from hybridqa.service.worker import Worker
from hybridqa.stores.keys import KeyStore

Observer = Callable[[Trace | Exception, float], None]
"""Told what became of a question, and the seconds it took."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """A service that may be put behind any number of routes."""

    tenants: Tenants
    keys: KeyStore | None
    """`None`: everybody is the tenant `default` and may write."""
    gate: Gate
    worker: Worker
    limits: ServeConfig
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when the service is told to stop: long streams end."""
    ready: threading.Event = field(default_factory=threading.Event)
    """Set once the models are loaded."""
    observers: list[Observer] = field(default_factory=list)

    def observe(self, outcome: Trace | Exception, seconds: float) -> None:
        for observer in self.observers:
            observer(outcome, seconds)
