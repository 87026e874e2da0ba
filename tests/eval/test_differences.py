from math import nan

import numpy as np
import pytest

from hybridqa.eval.differences import differences, pairs
from hybridqa.eval.statistics import Bootstrap
from hybridqa.types import Style


def test_pairs_are_of_one_style_and_auto_stands_beside_what_the_policy_can_choose() -> None:
    arms = ["base", "base+quote", "adapter", "adapter+quote", "wrong-adapter+quote", "auto"]

    found = pairs(arms, Style.QUOTE)

    assert ("adapter+quote", "wrong-adapter+quote") in found
    assert ("adapter", "base") in found
    assert ("auto", "base") in found
    assert not {
        ("auto", "base+quote"),
        ("auto", "wrong-adapter+quote"),
        ("adapter", "base+quote"),
    } & {*found}
    assert len(found) == len(set(found))
    assert ("auto", "base+quote") not in pairs(arms, Style.FREE)


def test_graded_scores_within_the_margin_are_a_tie() -> None:
    table = np.array([[0.8, 0.7], [0.9, 0.5], [0.2, 0.6], [0.5, 0.5], [nan, 0.5]])

    (found,) = differences("f1", table, ["a", "b"], [("a", "b")], Bootstrap.draw("vwxyz"))

    assert (found.wins, found.ties, found.losses, found.margin) == (1, 2, 1, 0.1)
    assert (found.test, found.p) == ("sign", 1)
    assert found.mean == pytest.approx(0.025)
    assert found.low < found.mean < found.high


def test_answers_right_or_wrong_are_compared_by_mcnemar() -> None:
    right = np.array([[1.0, 0, 0]] * 6 + [[1.0, 1, 0]] * 3 + [[0.0, 1, 0]])
    arms, compared = ["a", "b", "c"], [("a", "b"), ("a", "c")]

    first, second = differences(
        "correct", right, arms, compared, Bootstrap.draw(range(10)), binary=True
    )

    assert (first.test, first.wins, first.ties, first.losses) == ("mcnemar", 6, 3, 1)
    assert first.p == pytest.approx(2 * (1 + 7) / 2**7)  # of 7 that differ, at most 1 lost
    assert first.p_adjusted == pytest.approx(first.p)
    assert second.p == pytest.approx(2 / 2**9)
    assert second.p_adjusted == pytest.approx(2 * second.p)


def test_pairs_without_a_shared_score_are_left_out_of_the_correction() -> None:
    table = np.array([[1.0, 0.0, nan]] * 5)
    compared = [("a", "b"), ("a", "c")]

    (found,) = differences("f1", table, ["a", "b", "c"], compared, Bootstrap.draw(range(5)))

    assert found.other == "b"
    assert found.p_adjusted == found.p
