"""What a stage is told by the flow that runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.log import NOISE
from flows.stage_task import Place, again_in, check_time, deadline_in, environment_of
from stages.shared.errors import BudgetError, DataError, TransientError
from stages.shared.pool.account import BUDGET, RUN


def test_the_stages_of_one_run_know_which_it_is_so_that_they_share_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(Path(), environment={"OTHER": "x"})
    assert environment_of(place) == {"OTHER": "x"}
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__ID", "run-7")
    assert environment_of(place) == {"OTHER": "x", RUN: "run-7"}
    assert environment_of(Place(Path(), budget=2.5)) == {RUN: "run-7", BUDGET: "2.5"}


def test_a_run_stops_when_its_hours_are_over_and_goes_on_when_it_is_run_again() -> None:
    check_time(Place(Path()))
    check_time(Place(Path(), deadline=deadline_in(1)))
    with pytest.raises(BudgetError, match="what is done is kept: run it again") as found:
        check_time(Place(Path(), deadline=deadline_in(0)))
    assert not found.value.retryable


def test_what_may_pass_is_tried_twice_more_and_a_mistake_never() -> None:
    assert [again_in(TransientError("x"), attempt) for attempt in (1, 2, 3)] == [10, 60, None]
    assert again_in(DataError("x"), 1) is None


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("train: 30/30 pre-training steps, 6 s, loss 5.224", True),
        ("evaluate: the router answers 61% of the questions", True),
        ("Writing model shards:   0%|          | 0/1 [00:00<?, ?it/s]", False),
        ("Running stage 'train':", False),
        ("> python -m stages.train", False),
    ],
)
def test_the_log_of_a_run_tells_what_stages_say_and_no_bars(line: str, told: bool) -> None:
    assert (NOISE.match(line) is None) is told
