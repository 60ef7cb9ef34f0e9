"""Intervals: percentile bootstrap by question, stratified for the average, paired for differences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import bootstrap

from stages.evaluate.statistics import Resamples, flips, holm

RNG = np.random.default_rng(3)
SETS = {"nq": (RNG.random(100) < 0.6).astype(float), "musique": (RNG.random(40) < 0.2).astype(float)}
RESAMPLES = Resamples({name: len(column) for name, column in SETS.items()}, 20_000, 0.95, seed=7)


@pytest.mark.parametrize("name", sorted(SETS))
def test_the_interval_of_a_mean_is_that_of_scipy(name: str) -> None:
    ours = RESAMPLES.mean(name, SETS[name])
    theirs = bootstrap((SETS[name],), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    assert ours.value == SETS[name].mean()
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.011)


def test_the_average_weighs_every_set_the_same_whatever_its_size() -> None:
    average = RESAMPLES.average(SETS)
    assert average.value == pytest.approx((SETS["nq"].mean() + SETS["musique"].mean()) / 2)


def test_the_interval_of_the_average_resamples_within_each_set() -> None:
    theirs = bootstrap(
        (SETS["nq"], SETS["musique"]),
        lambda nq, musique, axis=-1: (nq.mean(axis=axis) + musique.mean(axis=axis)) / 2,
        n_resamples=20_000, method="percentile", rng=1,
    ).confidence_interval  # fmt: skip
    ours = RESAMPLES.average(SETS)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.006)


def test_a_difference_is_paired_by_question() -> None:
    better = {name: np.clip(column + (np.arange(len(column)) < 5), 0, 1) for name, column in SETS.items()}
    paired = RESAMPLES.difference(better, SETS)
    theirs = bootstrap(
        tuple(better[name] - SETS[name] for name in ("nq", "musique")),
        lambda nq, musique, axis=-1: (nq.mean(axis=axis) + musique.mean(axis=axis)) / 2,
        n_resamples=20_000, method="percentile", rng=1,
    ).confidence_interval  # fmt: skip
    assert (paired.low, paired.high) == pytest.approx((theirs.low, theirs.high), abs=0.006)
    assert paired.low >= 0, "no question got worse, so no resample can say so"


def test_a_method_against_itself_differs_by_nothing() -> None:
    same = RESAMPLES.difference(SETS, SETS)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_where_every_question_came_out_the_same_the_interval_is_wilsons(outcome: float) -> None:
    found = Resamples({"nq": 100}, 100, 0.95, seed=7).mean("nq", np.full(100, outcome))
    wilson = 3.8415 / (100 + 3.8415)
    assert found.value == outcome
    assert found.high - found.low == pytest.approx(wilson, abs=1e-4)


def test_the_same_seed_gives_the_same_interval_whatever_the_order_of_the_sets() -> None:
    sizes = {name: len(column) for name, column in reversed(SETS.items())}
    assert Resamples(sizes, 20_000, 0.95, seed=7).mean("nq", SETS["nq"]) == RESAMPLES.mean("nq", SETS["nq"])


def test_flips_are_tested_as_mcnemar_has_it() -> None:
    """Seven won and one lost: 2 x (C(8,0) + C(8,1)) / 2^8 = 18/256."""
    ours = {"nq": np.array([1.0] * 7 + [0.0] + [1.0] * 4)}
    theirs = {"nq": np.array([0.0] * 7 + [1.0] + [1.0] * 4)}
    found = flips(ours, theirs)
    assert (found.won, found.lost) == (7, 1)
    assert found.p == pytest.approx(18 / 256)


def test_where_nothing_flips_nothing_is_found() -> None:
    assert flips(SETS, SETS).p == 1.0


def test_holm_by_hand() -> None:
    """Sorted .01 .03 .04 times 3, 2, 1: .03, .06, .04, and no value below the one before."""
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize("compare", [flips, RESAMPLES.difference])
def test_a_question_that_one_of_two_lacks_is_an_error(compare: Callable[..., object]) -> None:
    with pytest.raises(ValueError, match="nq has 100 questions of one method and 99 of the other"):
        compare(SETS, {**SETS, "nq": SETS["nq"][:-1]})
    with pytest.raises(ValueError, match="nq has 100 questions of one method and 0 of the other"):
        compare(SETS, {"musique": SETS["musique"]})


def test_seeds_that_agree_are_as_sure_as_one_and_seeds_that_do_not_are_less_so() -> None:
    alone = RESAMPLES.average(SETS)
    same = RESAMPLES.pooled([SETS, SETS, SETS], seed=7)
    assert (same.value, same.low, same.high) == pytest.approx((alone.value, alone.low, alone.high))
    worse = {name: np.zeros_like(column) for name, column in SETS.items()}
    torn = RESAMPLES.pooled([SETS, worse], seed=7)
    assert torn.value == pytest.approx(alone.value / 2)
    assert (torn.low, torn.high) == pytest.approx((0.0, alone.value), abs=0.08), (
        "two runs alike are drawn every other time"
    )


def test_runs_of_other_questions_are_not_pooled() -> None:
    with pytest.raises(ValueError, match="nq has 100 questions of one method and 99 of the other"):
        RESAMPLES.pooled([SETS, {**SETS, "nq": SETS["nq"][:-1]}], seed=7)


def test_a_set_too_large_to_resample_one_by_one_has_as_wide_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(5).random(3_000)
    one_by_one = Resamples({"nq": 3_000}, 4_000, 0.95, 7).mean("nq", values)
    monkeypatch.setattr("stages.evaluate.statistics.GROUPS", 700)
    grouped = Resamples({"nq": 3_000}, 4_000, 0.95, 7).mean("nq", values)
    assert grouped.value == one_by_one.value
    assert grouped.high - grouped.low == pytest.approx(one_by_one.high - one_by_one.low, rel=0.1)
