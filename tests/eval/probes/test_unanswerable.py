"""Questions asked with what is found for them, and with passages that do not answer them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from hybridqa.errors import InputError
from hybridqa.eval.cases import Dataset
from hybridqa.eval.probes.unanswerable import UnanswerablePlan, grid, run_unanswerable
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
    assert [row[0] for row in grid(report).rows] == ["rivers, free", "rivers, quote"]


def test_what_is_likely_to_answer_is_fitted(inventive: Any, rivers: Dataset) -> None:
    inventive.locator = tiny_locator()
    inventive.generator = LocatingGenerator(inventive.generator, inventive.locator)
    internalize = replace(inventive.config.internalize, locator="tiny")
    config = replace(inventive.config, internalize=internalize)

    report = run_unanswerable(
        config, [rivers], UnanswerablePlan(limit=4, styles=("free",)), open_home=inventive
    )

    assert report.weights is not None
    assert all(row.relevance is not None for row in report.rows)
    least = 1 - report.silent_from
    assert all((row.relevance or 0.0) >= least for row in report.rows if row.answer)
    assert "odds" in grid(report).caption


def test_questions_kept_for_measuring_are_left_out(inventive: Any, rivers: Dataset) -> None:
    every = {case.id for case in rivers.cases if case.answerable and case.documents}
    plan = UnanswerablePlan(without=2, styles=("quote",))

    report = run_unanswerable(inventive.config, [rivers], plan, open_home=inventive)

    assert len({row.question for row in report.rows}) < len(every)
    with pytest.raises(InputError, match="no question left"):
        run_unanswerable(inventive.config, [rivers], replace(plan, without=99), open_home=inventive)
