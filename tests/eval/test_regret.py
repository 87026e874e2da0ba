from collections.abc import Sequence

import numpy as np
import pytest

from hybridqa.eval.regret import RETRIEVAL_PRICE, Regret, regrets
from hybridqa.eval.rows import QuestionRow, SpanRow
from hybridqa.eval.statistics import Bootstrap, Floats
from hybridqa.types import Style

ARMS = ["adapter+quote", "retrieval+quote", "auto"]
QUESTIONS = 200


def asked(gold: str | None, *hits: str) -> QuestionRow:
    return QuestionRow(
        id="q",
        question="?",
        answers=(gold,) if gold else (),
        documents=(gold,) if gold else (),
        retrieved=tuple(SpanRow(document=hit, start=0, end=1) for hit in hits),
    )


FOUND = asked("d", "d")


def choices() -> Floats:
    """Each arm is right where the other is wrong."""
    first = (np.arange(QUESTIONS) % 2).astype(float)
    return np.column_stack([first, 1 - first])


def judged(chosen: Floats, seconds: tuple[float, float, float] = (1, 2, 2)) -> tuple[Regret, ...]:
    table = np.column_stack([choices(), chosen])
    times = np.tile(np.array(seconds), (QUESTIONS, 1))
    drawn = Bootstrap.draw(range(QUESTIONS))
    return regrets("f1", table, times, ARMS, Style.QUOTE, [FOUND] * QUESTIONS, drawn)


def quality_of(table: Floats, questions: Sequence[QuestionRow]) -> Regret:
    drawn = Bootstrap.draw(range(len(table)))
    (quality,) = regrets("f1", table, table * np.nan, ARMS, Style.QUOTE, questions, drawn)
    return quality


def test_a_perfect_router_closes_the_gap() -> None:
    quality, _ = judged(choices().max(1))

    assert quality.arms == {"adapter+quote": 0.5, "retrieval+quote": 0.5}
    assert (quality.best_single.mean, quality.router.mean, quality.oracle.mean) == (0.5, 1, 1)
    assert quality.closed is not None
    assert quality.closed.as_dict() == {"mean": 1, "low": 1, "high": 1}


def test_a_router_that_throws_dice_closes_nothing() -> None:
    rng = np.random.default_rng(0)
    picked = rng.integers(2, size=QUESTIONS)

    quality, _ = judged(choices()[np.arange(QUESTIONS), picked])

    assert quality.closed is not None
    assert quality.closed.mean == pytest.approx(0, abs=0.15)
    assert quality.closed.low < 0 < quality.closed.high


def test_always_the_best_arm_closes_exactly_nothing() -> None:
    quality, _ = judged(choices()[:, 0])

    assert quality.best_single.arm == "adapter+quote"
    assert quality.closed is not None
    assert quality.closed.as_dict() == {"mean": 0, "low": 0, "high": 0}


def test_a_router_may_be_worse_than_the_best_arm() -> None:
    quality, _ = judged(np.zeros(QUESTIONS))

    assert quality.closed is not None
    assert quality.closed.mean == -1


def test_time_has_a_price_that_retrieval_sets() -> None:
    _, priced = judged(choices().max(1), seconds=(1, 4, 2))

    assert priced.price_per_second == pytest.approx(RETRIEVAL_PRICE / 4)
    assert priced.arms["retrieval+quote"] == pytest.approx(0.5 - RETRIEVAL_PRICE)
    assert priced.best_single.mean == pytest.approx(0.5 - RETRIEVAL_PRICE / 4)
    assert priced.router.mean == pytest.approx(1 - RETRIEVAL_PRICE / 2)
    # Half the time the adapter is right, and quicker; else the router is, quicker than retrieval.
    assert priced.oracle.mean == pytest.approx(1 - RETRIEVAL_PRICE * (1 / 4 + 1 / 2) / 2)


def test_without_times_only_quality_counts() -> None:
    assert [each.name for each in judged(choices()[:, 0], (1, 2, float("nan")))] == ["quality"]


def test_no_gap_no_share() -> None:
    assert quality_of(np.ones((5, 3)), [FOUND] * 5).closed is None


def test_the_oracle_may_abstain_as_the_router_does() -> None:
    unanswerable = np.arange(QUESTIONS) % 4 == 0
    bare = np.where(unanswerable[:, None], 0.0, choices())
    router = np.where(unanswerable, 1.0, bare.max(1))
    router[1] = 0.0

    quality = quality_of(np.column_stack([bare, router]), [FOUND] * QUESTIONS)

    assert (quality.router.mean, quality.oracle.mean) == (1 - 1 / QUESTIONS, 1)
    assert quality.closed is not None
    assert 0.9 < quality.closed.low < quality.closed.mean < quality.closed.high <= 1


def test_an_adapter_whose_document_is_not_found_first_is_worth_nothing() -> None:
    questions = [
        asked("d", "d", "other"),
        asked("d", "other", "d"),
        asked("d"),  # the index found nothing
        asked(None, "other"),
    ]
    table = np.array([[1.0, 0.5, 0.5]] * 4)

    quality = quality_of(table, questions)

    assert quality.arms == {"adapter+quote": 0.5, "retrieval+quote": 0.5}
    assert quality.oracle.mean == 0.75
    assert table[1, 0] == 1  # as it was, for the other figures


def test_an_answer_worth_nothing_has_its_price() -> None:
    table, times = np.ones((4, 3)), np.ones((4, 3))

    _, priced = regrets(
        "f1", table, times, ARMS, Style.QUOTE, [asked("d", "other")] * 4, Bootstrap.draw("abcd")
    )

    assert priced.arms["adapter+quote"] == pytest.approx(-RETRIEVAL_PRICE)


@pytest.mark.parametrize(
    "arms", [["adapter+quote", "retrieval+quote", "context+quote"], ["adapter", "base", "auto"]]
)
def test_there_must_be_a_router_and_a_choice_in_its_style(arms: list[str]) -> None:
    table, drawn = np.ones((5, 3)), Bootstrap.draw(range(5))

    assert regrets("f1", table, table, arms, Style.QUOTE, [FOUND] * 5, drawn) == ()


def test_questions_that_an_arm_has_no_score_of_are_left_out() -> None:
    table = np.column_stack([choices(), choices().max(1)])
    table[0] = np.nan
    table[1, 2] = np.nan

    quality = quality_of(table, [asked("d", "other")] + [FOUND] * (QUESTIONS - 1))

    assert quality.router.mean == 1
    assert set(quality.arms.values()) == {0.5}
