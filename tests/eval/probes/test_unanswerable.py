"""Questions asked with what is found for them, and with passages that do not answer them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from hybridqa.errors import InputError
from hybridqa.eval.cases import Dataset
from hybridqa.eval.probes.unanswerable import run_unanswerable
from hybridqa.eval.probes.unanswerable_report import UnanswerablePlan, grids, stricter
from hybridqa.internalize.locating import LocatingGenerator
from hybridqa.testing import FakeGenerator, tiny_locator
from hybridqa.types import Style


@pytest.fixture
def inventive(homes: Any) -> Any:
    """Homes whose generator says a passage's first sentence, whatever it is asked."""
    homes.generator = FakeGenerator(
        lambda question, texts: texts[0].split(".")[0] + "." if texts else "",
        model_fingerprint=homes.base.fingerprint,
    )
    return homes


def test_what_is_invented_is_told_beside_what_is_found(inventive: Any, rivers: Dataset) -> None:
    plan = UnanswerablePlan(limit=3, styles=("free", "quote"))

    report = run_unanswerable(inventive.config, [rivers], plan, open_home=inventive)

    assert [each.style for each in report.outcomes] == [Style.FREE, Style.QUOTE]
    for each in report.outcomes:
        assert each.questions == 3
        assert each.f1.mean > 0
        assert each.nothing.mean == 0
        assert each.invented is not None
        assert each.invented.mean == 1
    assert report.weights is None  # no locator told anything
    own = {row.question for row in report.rows if row.found}
    assert own == {row.question for row in report.rows if not row.found}
    assert all(row.held for row in report.rows if row.found)
    assert not any(row.held or row.f1 for row in report.rows if not row.found)
    told = json.loads(json.dumps(report.as_dict()))
    assert told["outcomes"][0]["invented"]["mean"] == 1
    (table,) = grids(report)
    assert [row[0] for row in table.rows] == ["rivers, free", "rivers, quote"]


def test_what_is_likely_to_answer_is_fitted(inventive: Any, rivers: Dataset) -> None:
    inventive.locator = tiny_locator()
    inventive.generator = LocatingGenerator(inventive.generator, inventive.locator)
    internalize = replace(inventive.config.internalize, locator="tiny")
    config = replace(inventive.config, internalize=internalize)

    report = run_unanswerable(
        config, [rivers], UnanswerablePlan(limit=4, styles=("free",)), open_home=inventive
    )

    assert report.weights is not None
    assert "bias" in report.weights
    assert all(row.relevance is not None for row in report.rows)
    least = 1 - report.about["silent_from"]
    assert all((row.relevance or 0.0) >= least for row in report.rows if row.answer)
    asked, lower = grids(report)
    assert "odds" in asked.caption
    assert [row[0] for row in lower.rows][:2] == ["rivers, 0.5", "rivers, 0.4"]
    likely = sorted(row.relevance or 0.0 for row in report.rows if row.answer)
    said = stricter(report.rows, 1 - likely[len(likely) // 2])
    assert sum(bool(row.answer) for row in said) == len(likely) - len(likely) // 2
    assert len(said) == len(report.rows)


def test_questions_kept_for_measuring_are_left_out(inventive: Any, rivers: Dataset) -> None:
    every = {case.id for case in rivers.cases if case.answerable and case.documents}
    plan = UnanswerablePlan(without=2, styles=("quote",))

    report = run_unanswerable(inventive.config, [rivers], plan, open_home=inventive)

    assert len({row.question for row in report.rows}) < len(every)
    with pytest.raises(InputError, match="no question left"):
        run_unanswerable(inventive.config, [rivers], replace(plan, without=99), open_home=inventive)
