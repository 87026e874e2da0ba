import numpy as np
import pytest

from hybridqa.eval.regret import RETRIEVAL_PRICE, Regret, regrets
from hybridqa.eval.statistics import Bootstrap, Floats
from hybridqa.types import Style

ARMS = ["adapter+quote", "retrieval+quote", "auto"]
QUESTIONS = 200


def choices() -> Floats:
    """Each arm is right where the other is wrong."""
    first = (np.arange(QUESTIONS) % 2).astype(float)
    return np.column_stack([first, 1 - first])


def judged(chosen: Floats, seconds: tuple[float, float, float] = (1, 2, 2)) -> tuple[Regret, ...]:
    table = np.column_stack([choices(), chosen])
    times = np.tile(np.array(seconds), (QUESTIONS, 1))
    drawn = Bootstrap.draw(range(QUESTIONS))
    return regrets("f1", table, times, ARMS, Style.QUOTE, drawn)


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
    assert priced.oracle.mean == pytest.approx(1 - RETRIEVAL_PRICE * (1 + 1 / 4) / 2)


def test_without_times_only_quality_counts() -> None:
    assert [each.name for each in judged(choices()[:, 0], (1, 2, float("nan")))] == ["quality"]


def test_no_gap_no_share() -> None:
    table = np.ones((5, 3))

    (quality,) = regrets("f1", table, table * np.nan, ARMS, Style.QUOTE, Bootstrap.draw(range(5)))

    assert quality.closed is None


@pytest.mark.parametrize(
    "arms", [["adapter+quote", "retrieval+quote", "context+quote"], ["adapter", "base", "auto"]]
)
def test_there_must_be_a_router_and_a_choice_in_its_style(arms: list[str]) -> None:
    table = np.ones((5, 3))

    assert regrets("f1", table, table, arms, Style.QUOTE, Bootstrap.draw(range(5))) == ()


def test_questions_that_an_arm_has_no_score_of_are_left_out() -> None:
    table = np.column_stack([choices(), choices().max(1)])
    table[0] = np.nan
    table[1, 2] = np.nan
    drawn = Bootstrap.draw(range(QUESTIONS))

    (quality,) = regrets("f1", table, table * np.nan, ARMS, Style.QUOTE, drawn)

    assert quality.router.mean == 1
    assert set(quality.arms.values()) == {0.5}
