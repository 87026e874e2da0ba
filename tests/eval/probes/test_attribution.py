"""What is cited for adapters' answers, in every way, against the gold spans."""

import json
from dataclasses import replace
from typing import Any

import pytest

from hybridqa.errors import InputError
from hybridqa.eval.cases import Dataset
from hybridqa.eval.probes.attribution import Way, grid, run_attribution
from hybridqa.testing import FakeGenerator, tiny_associative, tiny_locator


@pytest.fixture
def attributing(homes: Any) -> Any:
    homes.associative, homes.locator = tiny_associative(homes.base), tiny_locator()
    return homes


def answering(homes: Any, answer: str) -> None:
    homes.generator = FakeGenerator(
        lambda question, texts: answer, model_fingerprint=homes.base.fingerprint
    )


def test_all_ways_are_measured(attributing: Any, rivers: Dataset) -> None:
    answering(attributing, "river")
    report = run_attribution(attributing.config, rivers, open_home=attributing)

    assert report.left_out == 1  # that which no document answers
    texts = {document.id: document.text for document in rivers.documents}
    for way in Way:
        rows = report.of(way)
        assert len(rows) == 4
        for row in rows:
            assert row.start is not None
            assert row.end is not None
            town = texts[row.document].split()[0]
            assert row.hit == (row.start < len(town))
            assert 0 < row.confidence <= 1
            if way in (Way.KEYS_TEXT, Way.TEXT):
                assert texts[row.document][row.start : row.end] == "river"
    told = json.loads(json.dumps(report.as_dict()))
    assert told["ways"]["text"]["hit"]["mean"] == 0
    assert told["ways"]["text"]["cited"] == 4
    assert [row[0] for row in grid(report).rows] == list(Way)


def test_what_the_text_does_not_say_is_cited_by_keys_alone(
    attributing: Any, rivers: Dataset
) -> None:
    answering(attributing, "Atlantis")
    report = run_attribution(attributing.config, rivers, limit=2, open_home=attributing)

    figures = report.as_dict()["ways"]
    assert figures["keys"]["cited"] == 2
    assert (figures["keys+text"]["cited"], figures["text"]["cited"]) == (0, 0)
    assert figures["text"]["hit_of_cited"] is None
    assert all(row.confidence == 0 for row in report.of(Way.TEXT))


def test_what_has_no_keys_cannot_be_measured(homes: Any, rivers: Dataset) -> None:
    with pytest.raises(InputError, match="only an associative one has keys"):
        run_attribution(homes.config, rivers, open_home=homes)


def test_questions_without_gold_spans_cannot_be_measured(attributing: Any, rivers: Dataset) -> None:
    bare = replace(rivers, cases=tuple(replace(case, spans=()) for case in rivers.cases))

    with pytest.raises(InputError, match="No question of `rivers` says where"):
        run_attribution(attributing.config, bare, open_home=attributing)
