"""Quality over cost: golden vectors, worked out by hand, and what must hold for any points."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.evaluate.frontier import aiq, apgr, cost_of, cpt, hull, hypervolume, mean_quality

CHEAP, GOOD = (1.0, 0.4), (3.0, 0.6)
WEAK, STRONG, BETWEEN = CHEAP, GOOD, (2.0, 0.55)
POINTS = st.lists(st.tuples(st.floats(0.01, 9.0), st.floats(0.0, 1.0)), min_size=1, max_size=8)


def test_the_hull_leaves_out_what_is_dearer_and_worse_and_what_mixing_beats() -> None:
    assert hull([GOOD, (2.0, 0.3), (2.5, 0.41), CHEAP, (4.0, 0.6)]) == [CHEAP, GOOD]


def test_of_two_points_at_one_cost_the_hull_keeps_the_better() -> None:
    assert hull([(1.0, 0.2), CHEAP]) == [CHEAP]


def test_aiq_by_hand() -> None:
    """From nobody to CHEAP .2, on to GOOD 1.0, flat to 4 .6: 1.8 over a range of 4."""
    assert aiq([CHEAP, GOOD], 4.0) == pytest.approx(0.45)


def test_aiq_of_one_point_beyond_the_range_counts_only_the_way_there() -> None:
    assert aiq([(4.0, 0.8)], 2.0) == pytest.approx(0.2)


def test_apgr_by_hand() -> None:
    """Mean quality 0.525 between the costs of the weak and the strong: (0.525 - 0.4) / 0.2."""
    assert apgr([BETWEEN], WEAK, STRONG) == pytest.approx(0.625)


def test_mixing_the_two_at_random_recovers_half() -> None:
    assert apgr([], WEAK, STRONG) == pytest.approx(0.5)
    assert cpt([], WEAK, STRONG, 0.5) == pytest.approx(0.5)


def test_cpt_by_hand() -> None:
    """Half of the gap is .5, which the line from WEAK to BETWEEN reaches at 1 + 2/3: a third of the way from 1 to 3."""
    assert cpt([BETWEEN], WEAK, STRONG, 0.5) == pytest.approx(1 / 3)


@pytest.mark.parametrize("strong", [(0.5, 0.9), (3.0, 0.4)])
def test_without_a_gap_there_is_nothing_to_recover(strong: tuple[float, float]) -> None:
    assert apgr([BETWEEN], WEAK, strong) is None
    assert cpt([BETWEEN], WEAK, strong, 0.5) is None


def test_the_cost_of_a_quality_is_read_off_the_hull() -> None:
    assert cost_of([CHEAP, GOOD], 0.5) == pytest.approx(2.0)
    assert cost_of([CHEAP, GOOD], 0.61) is None


def test_hypervolume_by_hand() -> None:
    """0.4 from cost 1 to 3, 0.6 from 3 to 4: 1.4 of a box of 4."""
    assert hypervolume([GOOD, CHEAP], 4.0) == pytest.approx(0.35)
    assert hypervolume([(5.0, 1.0)], 4.0) == 0.0


def test_a_range_that_holds_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="holds nothing"):
        mean_quality([CHEAP], 2.0, 2.0)


@given(POINTS, st.tuples(st.floats(0.01, 9.0), st.floats(0.0, 1.0)))
def test_another_point_never_makes_a_method_worse(points: list[tuple[float, float]], more: tuple[float, float]) -> None:
    assert aiq([*points, more], 10.0) >= aiq(points, 10.0) - 1e-9
    assert hypervolume([*points, more], 10.0) >= hypervolume(points, 10.0) - 1e-9


@given(POINTS)
def test_mixing_is_worth_no_less_than_not_mixing(points: list[tuple[float, float]]) -> None:
    assert aiq(points, 10.0) >= hypervolume(points, 10.0) - 1e-9
