"""Adapters in memory: those used last, bounded by bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from hybridqa.stores.places import tensors_of
from hybridqa.types import Adapter


class AdapterCache:
    """The adapters used last, bounded by the bytes of their factors."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._used_bytes = 0
        self._adapters: OrderedDict[str, Adapter] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, adapter_id: str) -> Adapter | None:
        with self._lock:
            if adapter_id in self._adapters:
                self._adapters.move_to_end(adapter_id)
            return self._adapters.get(adapter_id)

    def put(self, adapter: Adapter, still_wanted: Callable[[], bool]) -> None:
        """Keep an adapter, unless it alone exceeds the limit or is not wanted any more."""
        with self._lock:
            size = held_bytes(adapter)
            if size > self._limit_bytes or adapter.id in self._adapters or not still_wanted():
                return
            self._adapters[adapter.id] = adapter
            self._used_bytes += size
            while self._used_bytes > self._limit_bytes:
                _, oldest = self._adapters.popitem(last=False)
                self._used_bytes -= held_bytes(oldest)

    def drop(self, adapter_id: str) -> None:
        with self._lock:
            adapter = self._adapters.pop(adapter_id, None)
            if adapter is not None:
                self._used_bytes -= held_bytes(adapter)


def held_bytes(adapter: Adapter) -> int:
    """Return the size of an adapter's factors, and of what belongs to it besides."""
    factors = [tensor for layer in adapter.layers.values() for tensor in (layer.down, layer.up)]
    return sum(t.numel() * t.element_size() for t in [*factors, *tensors_of(adapter).values()])
