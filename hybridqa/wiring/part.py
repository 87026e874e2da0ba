"""Attributes that are built when first used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Part(Generic[T]):
    """An attribute that is built when first used, once, whichever threads ask for it.

    Its object has a reentrant lock `_building`. An attribute that was set is not built.
    """

    def __init__(self, build: Callable[[Any], T]) -> None:
        self._build, self._name = build, build.__name__

    def __get__(self, instance: Any, owner: type) -> T:
        with instance._building:
            parts = instance.__dict__  # found there from now on, before this is asked
            if self._name not in parts:
                parts[self._name] = self._build(instance)
            part: T = parts[self._name]
            return part
