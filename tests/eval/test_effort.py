from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hybridqa.errors import InputError
from hybridqa.eval import effort_report
from hybridqa.eval.arms import ArmName
from hybridqa.eval.cases import Dataset
from hybridqa.eval.effort import EffortPlan, EffortReport, run_effort
from hybridqa.eval.folder import prepare_folder


@pytest.fixture
def measured(homes: Any, rivers: Dataset) -> EffortReport:
    return run_effort(homes.config, rivers, EffortPlan(steps=(20, 5), documents=3), open_home=homes)


def test_every_effort_is_made_of_the_same_documents(homes: Any, measured: EffortReport) -> None:
    made = [(effort.arm, effort.steps) for effort in measured.efforts]
    assert made == [
        (ArmName.ADAPTER, 0),
        (ArmName.DISTILLED, 5),
        (ArmName.REFINED, 5),
        (ArmName.DISTILLED, 20),
        (ArmName.REFINED, 20),
    ]
    assert (measured.documents, measured.questions) == (3, 3)
    for trainer in (homes.distillation, homes.refinement):
        assert trainer.calls[:3] == trainer.calls[3:]  # the steps are the fake's to ignore
    first, *others = measured.efforts
    assert first.times == 1
    assert {effort.times for effort in others} == {10}
    assert all(effort.f1.mean == 1 for effort in measured.efforts)
    assert all(effort.gained.mean == 0 for effort in others)
    assert measured.controls["wrong-adapter"].mean == 0
    assert measured.controls["context"].mean == 1


def test_it_is_shown_and_written(measured: EffortReport, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare_folder(out, effort_report.JSON)
    files = effort_report.write(measured, out)

    assert [file.name for file in files] == ["effort.json", "effort.png"]
    assert len(json.loads(files[0].read_text())["efforts"]) == 5
    assert files[1].read_bytes().startswith(b"\x89PNG")
    (grid,) = effort_report.grids(measured)
    assert {row[0] for row in grid.rows} == {
        "hypernetwork",
        "refined from there",
        "distilled from zero",
        "control: context",
        "control: base",
        "control: wrong-adapter",
    }
    with pytest.raises(InputError, match="holds a report already"):
        prepare_folder(out, effort_report.JSON)


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        (EffortPlan(steps=()), r"`--steps`.*\[\]"),
        (EffortPlan(steps=(5, 0)), r"at least 1, got \[5, 0\]"),
        (EffortPlan(documents=1), r"`--documents` is 1.*at least 2"),
    ],
)
def test_bad_plans_are_refused(homes: Any, rivers: Dataset, plan: EffortPlan, told: str) -> None:
    with pytest.raises(InputError, match=told):
        run_effort(homes.config, rivers, plan, open_home=homes)


def test_one_document_has_no_control(homes: Any, rivers: Dataset) -> None:
    alone = replace(rivers, cases=rivers.cases[:1])
    with pytest.raises(InputError, match="1 documents that questions are known"):
        run_effort(homes.config, alone, EffortPlan(), open_home=homes)
