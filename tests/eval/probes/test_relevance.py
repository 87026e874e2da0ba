"""Which questions an adapter would be worn for: by given weights, and by fitted ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from hybridqa.errors import InputError
from hybridqa.eval.cases import Dataset
from hybridqa.eval.probes.relevance import RelevancePlan, grid, run_relevance
from hybridqa.internalize.locator import TorchLocator
from hybridqa.protocols import Look
from hybridqa.testing import tiny_locator
from hybridqa.types import Place


class Knowing:
    """A locator that finds a river's questions answered in its own text only."""

    def __init__(self, locator: TorchLocator) -> None:
        self._locator, self.fingerprint = locator, locator.fingerprint
        self.keep = locator.keep

    def locate(self, looks: Sequence[Look]) -> list[Sequence[Place]]:
        found: list[Sequence[Place]] = []
        for look in looks:
            kept = self.texts[id(look.text)]
            share = 0.99 if look.question.rstrip("?").split()[-1] in kept else 0.01
            found.append([Place(start=0, end=1, share=share, nowhere=1 - share)])
        return found

    texts: dict[int, str]


def knowing() -> Knowing:
    locator = Knowing(tiny_locator())
    locator.texts, held = {}, []

    def keep(chunks: Any) -> Any:
        places = locator._locator.keep(chunks)
        locator.texts[id(places)] = " ".join(chunk.text for chunk in chunks)
        held.append(places)
        return places

    locator.keep = keep  # type: ignore[method-assign]
    return locator


@pytest.fixture
def located(homes: Any) -> Any:
    homes.locator = knowing()
    internalize = replace(homes.config.internalize, locator="tiny")
    homes.config = replace(homes.config, internalize=internalize)
    return homes


def test_an_adapter_is_worn_for_its_documents_questions(located: Any, rivers: Dataset) -> None:
    plan = RelevancePlan(documents=4, questions=3)

    report = run_relevance(located.config, [rivers], plan, open_home=located)

    worn = {str(share.kind): share for share in report.shares}
    assert [worn[kind].questions for kind in ("own", "documents", "general")] == [4, 12, 12]
    assert worn["own"].refitted == 1
    assert worn["documents"].refitted == worn["general"].refitted == 0
    assert report.weights["odds"] > 0
    own = [row for row in report.rows if row.kind == "own"]
    assert {row.fitted for row in own} == {True, False}
    assert all(row.worn == (row.likely >= report.least) for row in report.rows)
    assert min(row.likely for row in own) > max(
        row.likely for row in report.rows if row.kind == "general"
    )
    told = json.loads(json.dumps(report.as_dict()))
    assert told["shares"][0]["worn"]["mean"] == worn["own"].worn.mean
    assert len(grid(report).rows) == 3


def test_without_a_locator_nothing_tells(homes: Any, rivers: Dataset) -> None:
    with pytest.raises(InputError, match="locator: null"):
        run_relevance(homes.config, [rivers], open_home=homes)


def test_one_document_is_too_few(located: Any, rivers: Dataset) -> None:
    one = replace(rivers, cases=rivers.cases[:1])

    with pytest.raises(InputError, match="has 1 documents"):
        run_relevance(located.config, [one], open_home=located)
    with pytest.raises(InputError, match="documents must be at least 2"):
        RelevancePlan(documents=1)
