"""Batches made while another is learned from."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from hybridqa.training.config import EvaluationConfig, TrainConfig
from hybridqa.training.peers import Peers

T = TypeVar("T")


class Ahead(Generic[T]):
    """Batches by their number; those that follow the last one asked for are made meanwhile."""

    def __init__(
        self,
        make: Callable[[int], T],
        count: int,
        makers: Executor | None = None,
        stride: int = 1,
    ) -> None:
        """Keep the arguments.

        Args:
            make: Returns a batch, a function of its number alone.
            count: Made ahead; with none each batch is made when it is asked for.
            makers: Who call it; by default one thread.
            stride: From the number of a batch to that of the next.
        """
        self._make, self._count, self._stride = make, count, stride
        self._makers = makers or ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._coming: dict[int, Future[T]] = {}

    def __getitem__(self, number: int) -> T:
        if not self._count:
            return self._make(number)
        wanted = range(number, number + 1 + self._count * self._stride, self._stride)
        for other in self._coming.keys() - set(wanted):
            self._coming.pop(other).cancel()
        for each in wanted:
            if each not in self._coming:
                self._coming[each] = self._makers.submit(self._make, each)
        return self._coming.pop(number).result()


class Sent:
    """A dataclass of tensors that goes from process to process as bytes.

    Tensors of themselves go by shared memory, of which containers have little.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        plain = {n: t.numpy() if isinstance(t, Tensor) else t for n, t in vars(self).items()}
        return _received, (type(self), plain)


def _received(kind: Callable[..., T], plain: dict[str, Any]) -> T:
    return kind(
        **{n: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for n, v in plain.items()}
    )


def made_ahead(
    config: TrainConfig,
    make: Callable[[int], T],
    begin: Callable[[TrainConfig], Callable[[int], T]],
) -> Ahead[T]:
    """Return batches that are made by as many others as the config says.

    By processes that begin anew: forks hang or crash after torch has computed on several cores.

    Args:
        config: Of the run.
        make: Returns a batch, a function of its number alone.
        begin: Returns the like in another process, which has the run's config; importable.
    """
    stride = Peers().count  # the batches between are the others'
    if not config.workers:
        return Ahead(make, config.ahead, stride=stride)
    alone = replace(config, device="cpu", ahead=0, workers=0, evaluation=EvaluationConfig())
    makers = ProcessPoolExecutor(
        config.workers, get_context("spawn"), initializer=_begin, initargs=(begin, alone)
    )
    return Ahead(_made, config.ahead, makers, stride)


_make: Callable[[int], Any]
"""Of a process that makes batches for another."""


def _begin(begin: Callable[[TrainConfig], Callable[[int], Any]], config: TrainConfig) -> None:
    global _make
    torch.set_num_threads(1)
    _make = begin(config)


def _made(number: int) -> Any:
    return _make(number)
