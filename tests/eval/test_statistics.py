import numpy as np
import pytest

from hybridqa.eval.statistics import difference_interval, mean_interval, ratio_interval


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
    with pytest.raises(ValueError, match="got \\[2\\] scores and 1 clusters"):
        mean_interval([0.1, 0.2], ["a"])
