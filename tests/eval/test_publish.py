"""A README's sections are replaced, and nothing else."""

from pathlib import Path
from typing import Any

import pytest

from hybridqa.errors import InputError
from hybridqa.eval.arms import ArmName
from hybridqa.eval.cases import Dataset
from hybridqa.eval.plan import Plan
from hybridqa.eval.publish import publish
from hybridqa.eval.rows import Run
from hybridqa.eval.runner import run
from hybridqa.eval.runs import read_run

README = """# Title

<!-- eval rivers about -->
old
<!-- end -->
Words between.
<!-- eval rivers matrix f1 -->
<!-- end -->
<!-- eval other matrix -->
stays
<!-- end -->
"""


@pytest.fixture
def finished(homes: Any, rivers: Dataset, tmp_path: Path) -> Run:
    plan = Plan(dataset=rivers, arms=(ArmName.RETRIEVAL,), metrics=("f1", "correct"))
    run(homes.config, plan, tmp_path / "run", open_home=homes)
    return read_run(tmp_path / "run")


def test_sections_are_replaced_and_the_rest_stays(finished: Run) -> None:
    written = publish(README, {"rivers": finished})

    assert "old" not in written
    assert "5 questions on 4 documents of `rivers`, seed 0, tiny-random-llama" in written
    assert "| retrieval+quote | 0.800" in written
    assert "Correct" not in written  # only the metrics asked for
    assert "Words between.\n<!-- eval rivers matrix f1 -->\n" in written
    assert "<!-- eval other matrix -->\nstays\n<!-- end -->" in written
    assert publish(written, {"rivers": finished}) == written


def test_a_run_that_is_not_shown_is_told(finished: Run) -> None:
    with pytest.raises(InputError, match=r"No section of the README shows lakes"):
        publish(README, {"rivers": finished, "lakes": finished})
