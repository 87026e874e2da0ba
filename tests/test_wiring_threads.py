"""Who takes documents in and asks computes nothing itself: see `hybridqa.models.turns`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hybridqa.types import Arm, Document
from hybridqa.wiring import HybridQA

pytestmark = pytest.mark.real

SHARED_AMONG_THREADS = 32_768
"""Elements from which torch lets OpenMP's threads share an operation (`at::internal::GRAIN_SIZE`).
One such operation gives the thread that calls it helpers of its own for good."""

TEXT = "The Kestrel kettle holds 1.7 litres. Descale it every six weeks with citric acid. " * 40


class Watched(TorchDispatchMode):
    """Notes the operations on large tensors that this thread computes; views compute nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0
        self.large: set[str] = set()

    def __torch_dispatch__(
        self,
        operation: Callable[..., Any],
        types: object,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        self.seen += 1
        made = operation(*args, **(kwargs or {}))
        given = [a for a in args if isinstance(a, torch.Tensor)]
        if any(a.numel() >= SHARED_AMONG_THREADS for a in given) and not _views(made, given):
            self.large.add(str(operation))
        return made


def _views(made: Any, given: Sequence[torch.Tensor]) -> bool:
    memory = {tensor.untyped_storage().data_ptr() for tensor in given}
    parts = made if isinstance(made, (list, tuple)) else [made]
    return all(
        isinstance(part, torch.Tensor) and part.untyped_storage().data_ptr() in memory
        for part in parts
    )


def test_one_thread_does_all_large_operations(tmp_path: Path) -> None:
    document = Document(id="kettle", text=TEXT, title="Kettle", source="kettle.txt")
    with Watched() as watched, HybridQA(tmp_path / "home") as qa:
        assert qa.ingest(document).adapter
        for question in ("How much does the kettle hold?", "How often must it be descaled?"):
            for arm in (None, Arm.ADAPTER, Arm.BOTH):
                qa.ask(question, arm)

    assert watched.seen > 0
    assert watched.large == set()
