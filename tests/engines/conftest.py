from collections.abc import Iterator
from pathlib import Path

import pytest

from hybridqa.testing import FakeSystem


@pytest.fixture
def system(tmp_path: Path) -> Iterator[FakeSystem]:
    system = FakeSystem(tmp_path)
    yield system
    system.close()
