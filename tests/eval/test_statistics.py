import math
from math import nan

import numpy as np
import pytest
from scipy import stats

from hybridqa.eval.statistics import (
    Bootstrap,
    difference_interval,
    holm,
    mean_interval,
    ratio_interval,
    sign_test,
    wilson,
)


def test_intervals_cover_a_known_mean_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for draw in range(100):
        values = rng.beta(1, 2, size=60)
        found = mean_interval(values.tolist(), range(60), seed=draw)
        covered += found.low <= 1 / 3 <= found.high

    assert 0.88 <= covered / 100 <= 0.99


def test_the_mean_is_exact_and_the_seed_settles_the_bounds() -> None:
    values, clusters = [0.0, 1.0, 0.25, 0.5], ["a", "b", "c", "c"]

    found = mean_interval(values, clusters, seed=5)

    assert found.mean == pytest.approx(0.4375)
    assert 0 <= found.low <= found.mean <= found.high <= 1
    assert found == mean_interval(values, clusters, seed=5)


def test_questions_about_one_passage_count_as_one() -> None:
    values = [0.0, 1.0] * 20
    alone = mean_interval(values, range(40))
    together = mean_interval(values, [n % 2 for n in range(40)])

    assert (together.low, together.high) == (0, 1)
    assert alone.high - alone.low < 0.4


def test_pairing_takes_out_what_both_arms_share() -> None:
    rng = np.random.default_rng(0)
    hardness = rng.uniform(0, 0.8, size=50)
    better, worse = (hardness + 0.1).tolist(), hardness.tolist()

    difference = difference_interval(better, worse, range(50))
    ratio = ratio_interval(worse, better, range(50))

    assert difference.low == pytest.approx(difference.high) == pytest.approx(0.1)
    assert ratio is not None
    assert ratio.low < ratio.mean < ratio.high < 1


def test_a_ratio_to_nothing_is_no_number() -> None:
    assert ratio_interval([0.5, 1.0], [0.0, 0.0], "ab") is None
    rare = ratio_interval([1.0, 0.0], [1.0, 0.0], "ab")
    assert rare is not None
    assert (rare.low, rare.mean, rare.high) == (1, 1, 1)


def test_one_question_has_an_interval_without_width() -> None:
    found = mean_interval([0.3], ["only"])

    assert found.low == pytest.approx(found.high) == pytest.approx(found.mean)


def test_scores_without_clusters_are_refused() -> None:
    with pytest.raises(ValueError, match="got 2 scores and 1 clusters"):
        mean_interval([0.1, 0.2], ["a"])


def test_intervals_cover_as_often_as_they_say_also_of_few_documents() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for draw in range(300):
        easiness = rng.beta(2, 3, size=5)  # of a document's questions; 0.4 on average
        values = (rng.random((5, 5)) < easiness[:, None]).astype(float).ravel()
        found = mean_interval(values.tolist(), np.repeat(range(5), 5).tolist(), seed=draw)
        covered += found.low <= 0.4 <= found.high

    assert 0.9 <= covered / 300 <= 0.98  # plain percentiles: 0.86


def test_the_bounds_are_those_of_the_analytic_interval() -> None:
    values = np.random.default_rng(0).normal(0.5, 0.2, size=400)
    half = stats.t.ppf(0.975, 399) * values.std(ddof=1) / math.sqrt(400)

    found = mean_interval(values.tolist(), range(400))

    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_missing_scores_are_left_out_of_their_column_alone() -> None:
    values = np.array([[1.0, nan, nan], [0.0, 0.25, nan], [0.5, 0.75, nan], [0.5, nan, nan]])

    whole, part, nothing = Bootstrap.draw("abcd").intervals(values)

    assert whole is not None
    assert part is not None
    assert (whole.mean, part.mean, nothing) == (0.5, 0.5, None)
    assert (part.low, part.high) == (0.25, 0.75)


def test_columns_are_drawn_as_they_are_alone() -> None:
    scores = np.random.default_rng(0).random((30, 3))
    clusters = [n % 7 for n in range(30)]

    together = Bootstrap.draw(clusters, seed=4).intervals(scores)

    for column, interval in zip(scores.T, together, strict=True):
        alone = mean_interval(column.tolist(), clusters, seed=4)
        assert interval is not None
        assert interval.as_dict() == pytest.approx(alone.as_dict())


def test_of_one_document_questions_are_drawn() -> None:
    scores = np.linspace(0, 1, 40)
    drawn = Bootstrap.draw(["one"] * 20 + ["two"] * 20).among(range(20))

    found = drawn.intervals(scores[:20, None])[0]

    assert found == mean_interval(scores[:20].tolist(), range(20))
    assert found.low < found.mean < found.high


def test_where_one_document_has_scores_its_questions_are_drawn() -> None:
    scores = np.linspace(0, 1, 20)
    values = np.column_stack([np.r_[scores, scores], np.r_[scores, np.full(20, nan)]])
    values = np.column_stack([values, np.where(np.arange(40) == 3, 0.5, nan)])

    both, one, single = Bootstrap.draw(["one"] * 20 + ["two"] * 20).intervals(values)

    assert both is not None
    assert both.low == pytest.approx(both.high)  # both documents are alike
    assert one == mean_interval(scores.tolist(), range(20))
    assert one.low < one.mean < one.high
    assert single is not None
    assert single.as_dict() == {"mean": 0.5, "low": 0.5, "high": 0.5}


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (1, 0), (5, 5), (9, 2), (2, 9), (800, 700)])
def test_the_sign_test_is_the_exact_binomial_one(wins: int, losses: int) -> None:
    exact = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0

    assert sign_test(wins, losses) == pytest.approx(exact)


def test_holm_by_hand() -> None:
    # 0.01 * 4, then 0.02 * 3, then 0.03 * 2 and 0.04 * 1, neither below the one before.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(5, 10, 0.2366, 0.7634), (0, 2, 0.0, 0.6576), (10, 10, 0.7225, 1.0)],
)
def test_wilsons_interval_is_that_of_the_textbooks(
    successes: int, trials: int, low: float, high: float
) -> None:
    found = wilson(successes, trials)

    assert found.mean == successes / trials
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (3, 2), (-1, 2)])
def test_impossible_counts_have_no_share(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match="cannot have succeeded"):
        wilson(successes, trials)
