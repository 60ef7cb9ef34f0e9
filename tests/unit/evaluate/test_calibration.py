"""Stated chances against what came of them: golden vectors."""

from __future__ import annotations

import numpy as np
import pytest

from stages.evaluate.calibration import Bin, Calibration, Tally


def calibrate(*chunks: tuple[np.ndarray, np.ndarray]) -> Calibration | None:
    tally = Tally()
    for stated, right in chunks:
        tally.add(stated, right)
    return tally.calibration


def test_calibration_by_hand() -> None:
    """Two pairs at .9 of which one is right, two at .2 of which none is: gaps of .4 and .2, weighed alike."""
    found = calibrate((np.array([[0.9, 0.9], [0.2, 0.2]]), np.array([[True, False], [False, False]])))
    assert found is not None
    assert found.bins == (Bin(0.2, 0.0, 2), Bin(0.9, 0.5, 2))
    assert found.ece == pytest.approx((2 * 0.4 + 2 * 0.2) / 4)
    assert found.brier == pytest.approx((0.1**2 + 0.9**2 + 2 * 0.2**2) / 4)
    assert found.n == 4


def test_who_says_what_happens_is_calibrated_and_certainty_lies_in_the_last_tenth() -> None:
    found = calibrate((np.array([1.0, 0.0]), np.array([1, 0])), (np.array([1.7]), np.array([1])))
    assert found is not None
    assert (found.ece, found.brier, [item.n for item in found.bins]) == (0.0, 0.0, [1, 2])


def test_of_nothing_there_is_no_calibration_and_pairs_must_fit() -> None:
    assert calibrate((np.empty((0, 3)), np.empty((0, 3)))) is None
    with pytest.raises(ValueError, match="do not fit"):
        calibrate((np.zeros(3), np.zeros(2)))
