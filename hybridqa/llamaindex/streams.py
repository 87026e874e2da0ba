"""Blocking iterators for callers that must not block."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


async def in_thread(items: Iterator[T]) -> AsyncGenerator[T, None]:
    """Yield the items, each awaited in a thread."""
    while found := await asyncio.to_thread(lambda: list(islice(items, 1))):
        yield found[0]
