import numpy as np
import pytest

from hybridqa.eval.calibration import POINTS, calibrate


def test_ece_and_bins_by_hand() -> None:
    found = calibrate(np.array([0.95, 0.95, 0.15, 1.0]), np.array([1.0, 0.0, 0.0, 1.0]))

    low, high = found.bins
    assert (low.n, low.low, low.high, low.accuracy) == (1, 0.1, 0.2, 0)
    assert (high.n, high.accuracy) == (3, pytest.approx(2 / 3))
    assert high.confidence == pytest.approx(2.9 / 3)
    assert found.ece == pytest.approx((0.15 + 3 * 0.3) / 4)


def test_risk_and_coverage_by_hand() -> None:
    found = calibrate(np.array([0.9, 0.8, 0.3, 0.2]), np.array([1.0, 0.0, 1.0, 0.0]))

    curve = [(point.coverage, point.risk, point.threshold) for point in found.risk_coverage]
    assert curve == [
        (0.25, 0, 0.9),
        (0.5, 0.5, 0.8),
        (0.75, pytest.approx(1 / 3), 0.3),
        (1, 0.5, 0.2),
    ]
    assert found.aurc == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)


def test_equal_confidences_cannot_be_told_apart() -> None:
    right = np.array([1.0, 0.0, 1.0, 0.0])

    found = calibrate(np.full(4, 0.5), right)

    assert [point.coverage for point in found.risk_coverage] == [1]
    assert found.aurc == pytest.approx(0.5)
    assert found == calibrate(np.full(4, 0.5), right[::-1])


def test_good_confidence_withholds_the_wrong_answers_first() -> None:
    confidence = np.linspace(0, 1, 1000)
    right = (confidence > 0.3).astype(float)

    good, bad = calibrate(confidence, right), calibrate(1 - confidence, right)

    assert good.aurc is not None
    assert bad.aurc is not None
    assert good.aurc < 0.1 < 0.6 < bad.aurc
    assert len(good.risk_coverage) == POINTS
    assert good.risk_coverage[-1].coverage == 1


def test_without_answers_there_is_nothing_to_say() -> None:
    found = calibrate(np.array([]), np.array([]))

    assert (found.n, found.ece, found.aurc, found.bins) == (0, None, None, ())
