"""Weights of places and judges: what is learned of trials, and a run on fakes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from hybridqa.errors import InputError
from hybridqa.eval.cases import Dataset
from hybridqa.eval.probes.weighing import (
    Fitted,
    Trial,
    Ways,
    WeighPlan,
    _fitted,
    grid,
    run_weighing,
)
from hybridqa.testing import tiny_locator


def trial(odds: list[float], reader: list[float], f1: list[float], answerable: bool) -> Trial:
    none = [0.0] * (len(odds) + 1)
    return Trial(
        features={
            "odds": [*odds, 0.0],
            "none": [*none[1:], 1.0],
            "reader": reader,
            "adapter": none,
            "bare": none,
        },
        f1=f1,
        answerable=answerable,
    )


def by_the_reader(weight: float) -> tuple[Fitted, Fitted]:
    """The locator is right in three of four, the reader always; without an answer odds are low."""
    trials = [
        trial([5.0, 3.0], [-1.0, -9.0, -9.0], [1.0, 0.0], True),
        trial([5.0, 3.0], [-1.0, -9.0, -9.0], [1.0, 0.0], True),
        trial([5.0, 3.0], [-1.0, -9.0, -9.0], [1.0, 0.0], True),
        trial([5.0, 3.0], [-9.0, -1.0, -9.0], [0.0, 0.8], True),
        trial([2.0, 1.0], [-9.0, -9.0, -1.0], [0.0, 0.0], False),
        trial([2.0, 1.0], [-9.0, -9.0, -1.0], [0.0, 0.0], False),
        trial([2.0, 1.0], [-9.0, -9.0, -9.0], [0.1, 0.2], True),  # teaches nothing
    ]
    return _fitted(Ways.PLACES, trials, weight), _fitted(Ways.READ, trials, weight)


def test_what_helps_gets_weight() -> None:
    alone, read = by_the_reader(1.0)

    assert alone.weights["odds"] > 0
    assert alone.f1 == pytest.approx(3 / 5)
    assert read.weights["reader"] > 0
    assert read.f1 == pytest.approx(3.9 / 5)  # of the last, to nobody's merit, a tenth
    assert (alone.abstained_rightly, read.abstained_rightly) == (1.0, 1.0)
    assert (alone.abstained, read.abstained) == (pytest.approx(1 / 5), 0.0)


def test_what_seldom_happens_weighs_less() -> None:
    often, seldom = by_the_reader(1.0)[0], by_the_reader(0.01)[0]

    assert seldom.weights["none"] < often.weights["none"]
    assert seldom.abstained_rightly == 0.0


def test_weights_are_fitted_to_documents(homes: Any, rivers: Dataset) -> None:
    homes.locator = tiny_locator()
    config = replace(homes.config, internalize=replace(homes.config.internalize, locator="tiny"))

    report = run_weighing(config, [rivers], WeighPlan(limit=3), open_home=homes)

    assert report.questions == 3
    assert [each.ways for each in report.fitted] == list(Ways)
    assert [len(each.weights) for each in report.fitted] == [2, 3, 5]
    assert json.loads(json.dumps(report.as_dict()))["data"] == [rivers.name]
    assert len(grid(report).rows) == 3


def test_without_a_locator_there_is_nothing_to_weigh(homes: Any, rivers: Dataset) -> None:
    with pytest.raises(InputError, match="locator: null"):
        run_weighing(homes.config, [rivers], WeighPlan(), open_home=homes)


def test_some_questions_must_be_left(homes: Any, rivers: Dataset) -> None:
    homes.locator = tiny_locator()
    with pytest.raises(InputError, match="Of 0 trials 0 hold the answer"):
        run_weighing(homes.config, [rivers], WeighPlan(without=5), open_home=homes)
