from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hybridqa.routing.policy import Thresholds
from hybridqa.testing import FakeSystem


@pytest.fixture
def system(tmp_path: Path) -> Iterator[FakeSystem]:
    system = FakeSystem(tmp_path)
    # The shipped thresholds are tuned now and then; these tests are about what they do.
    thresholds = Thresholds(min_confidence=0.2, min_support=0.4, min_retrieval_confidence=0.5)
    system.policy = replace(system.policy, thresholds=thresholds)
    yield system
    system.close()
