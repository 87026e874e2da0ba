"""What the model made of prompts that it has read, for prompts that begin alike.

Questions on the same passages differ at the end only. The keys and values that attention made of
the common beginning are the same, so they need not be computed again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor

from hybridqa.protocols import Prompt

Layers = Sequence[tuple[Tensor, Tensor]]
"""Per layer keys and values, each of shape (heads, tokens, width)."""


@dataclass(frozen=True, eq=False)
class Prefix:
    """A beginning of a prompt, and what the model made of it."""

    ids: Sequence[int]
    layers: Layers
    following: int | None = None
    """Position of the token after it, if that is another than the number of its tokens."""

    @property
    def end(self) -> int:
        """Position of the token after it."""
        return len(self.ids) if self.following is None else self.following

    def first(self, count: int) -> Prefix:
        """Return the first `count` tokens of it, sharing memory."""
        return Prefix(
            self.ids[:count], [(keys[:, :count], values[:, :count]) for keys, values in self.layers]
        )

    @cached_property
    def size_bytes(self) -> int:
        return sum(t.numel() * t.element_size() for layer in self.layers for t in layer)

    def common(self, ids: Sequence[int]) -> int:
        """Return how many first tokens are the same."""
        count = min(len(ids), len(self.ids))
        differ = np.flatnonzero(self._array[:count] != np.asarray(ids[:count]))
        return int(differ[0]) if len(differ) else count

    @cached_property
    def _array(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.asarray(self.ids)


Key = tuple[str, tuple[str, ...]]
"""Realm, and ids of the adapters worn: nothing is ever shared across either."""


def key_of(prompt: Prompt) -> Key:
    return prompt.realm, tuple(adapter.id for adapter in prompt.adapters)


class PrefixCache:
    """The prompts read last, bounded by bytes; usable from several threads."""

    def __init__(self, limit_bytes: int, min_tokens: int = 64) -> None:
        """Keep the limits.

        Args:
            limit_bytes: Of keys and values.
            min_tokens: Shorter beginnings are neither kept nor used.
        """
        self.limit_bytes, self._min_tokens = limit_bytes, min_tokens
        self._used_bytes = 0
        self._kept: dict[Key, OrderedDict[int, Prefix]] = {}
        self._order: OrderedDict[int, Key] = OrderedDict()
        self._next = 0
        self._lock = threading.Lock()

    def longest(self, key: Key, ids: Sequence[int]) -> Prefix | None:
        """Return the longest known beginning of a prompt, without its last token."""
        with self._lock:
            best, most = None, self._min_tokens - 1
            for number, prefix in self._kept.get(key, {}).items():
                common = min(prefix.common(ids), len(ids) - 1)
                if common > most:
                    best, most = number, common
            if best is None:
                return None
            self._order.move_to_end(best)
            return self._kept[key][best].first(most)

    def put(self, key: Key, prefix: Prefix) -> None:
        """Keep a prompt, unless a kept one begins almost as it does."""
        if len(prefix.ids) < self._min_tokens or prefix.size_bytes > self.limit_bytes:
            return
        with self._lock:
            kept = self._kept.setdefault(key, OrderedDict())
            known = max((other.common(prefix.ids) for other in kept.values()), default=0)
            if len(prefix.ids) - known < self._min_tokens:
                return
            kept[self._next] = prefix
            self._order[self._next] = key
            self._next += 1
            self._used_bytes += prefix.size_bytes
            while self._used_bytes > self.limit_bytes:
                self._drop(next(iter(self._order)))

    def forget(self, realm: str) -> None:
        """Drop all that a realm's prompts left here."""
        with self._lock:
            for number in [n for n, key in self._order.items() if key[0] == realm]:
                self._drop(number)

    @property
    def used_bytes(self) -> int:
        return self._used_bytes

    def _drop(self, number: int) -> None:
        key = self._order.pop(number)
        self._used_bytes -= self._kept[key].pop(number).size_bytes
        if not self._kept[key]:
            del self._kept[key]
