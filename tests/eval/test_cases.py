"""Which questions are chosen, and what a dataset's hash covers."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from hybridqa.errors import InputError
from hybridqa.eval.cases import Case, Dataset, Span, choose
from hybridqa.types import Document


def dataset(documents: int = 4, each: int = 3, unanswerable: int = 6) -> Dataset:
    return Dataset(
        name="made up",
        documents=tuple(
            Document(id=f"d{n}", text=f"Text {n}.", title="", source="") for n in range(documents)
        ),
        cases=(
            *(
                Case(id=f"d{n}/{k}", question="Why?", answers=("x",), documents=(f"d{n}",))
                for n in range(documents)
                for k in range(each)
            ),
            *(
                Case(id=f"no/{k}", question="Who?", answers=(), documents=())
                for k in range(unanswerable)
            ),
        ),
    )


@pytest.mark.parametrize("seed", range(5))
def test_few_questions_are_spread_over_documents_and_kinds(seed: int) -> None:
    chosen = choose(dataset(), 6, seed)

    assert sum(not case.answerable for case in chosen.cases) == 2  # a third, as in all
    assert {case.documents for case in chosen.cases if case.answerable} == {
        (f"d{n}",) for n in range(4)
    }
    assert len(chosen.documents) == 4


def test_fewer_are_the_first_of_more_and_all_are_all() -> None:
    whole = choose(dataset(), None, 3)

    assert [choose(dataset(), n, 3).cases for n in (1, 5, 17)] == [
        whole.cases[:n] for n in (1, 5, 17)
    ]
    assert sorted(case.id for case in whole.cases) == sorted(c.id for c in dataset().cases)
    assert whole != choose(dataset(), None, 4)
    with pytest.raises(InputError, match="at least 1, got 0"):
        choose(dataset(), 0)


def test_only_unanswerable_or_only_answerable_questions_will_do() -> None:
    assert len(choose(dataset(each=0), 4).cases) == 4
    assert len(choose(dataset(unanswerable=0), 4).cases) == 4


def test_the_hash_covers_all_that_scores_rest_on() -> None:
    plain = dataset(1, 1, 0)
    (case,), (document,) = plain.cases, plain.documents
    changed = [
        replace(plain, cases=(replace(case, spans=(Span(document="d0", start=0, end=4),)),)),
        replace(plain, cases=(replace(case, labels={"stability": "stable"}),)),
        replace(plain, cases=(replace(case, answers=("y",)),)),
        replace(plain, documents=(replace(document, text="Other."),)),
        replace(
            plain, documents=(replace(document, modified_at=datetime(2026, 1, 1, tzinfo=UTC)),)
        ),
    ]

    assert len({plain.sha256, *(each.sha256 for each in changed)}) == 1 + len(changed)
    assert replace(plain, name="other").sha256 == plain.sha256
