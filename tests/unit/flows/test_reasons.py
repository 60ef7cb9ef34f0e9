"""Why a stage would run, in words."""

from __future__ import annotations

from typing import Any

import pytest

from flows.reasons import reasons_of

CHANGES = [{"changed deps": {"params.yaml": {"evaluate": "modified"}}}]


def reasons(before: dict[str, Any], after: dict[str, Any]) -> tuple[str, ...]:
    return reasons_of(CHANGES, {"params": {"params.yaml": {"evaluate": before}}}, {"evaluate": after})


def test_a_parameter_is_named_with_both_values() -> None:
    assert reasons({"seed": 1, "names": [1, 2]}, {"seed": 1, "names": [1, 3]}) == ("evaluate.names.1: 2 -> 3",)
    assert reasons({"seed": 1}, {}) == ("evaluate.seed: 1 -> nothing",)


def test_a_small_number_is_the_same_however_dvc_writes_it() -> None:
    """DVC writes 3.0e-5 into dvc.lock as `3e-05`, which is text to YAML."""
    assert reasons({"price": "3e-05", "seed": 1}, {"price": 3.0e-5, "seed": 2}) == ("evaluate.seed: 1 -> 2",)
    assert reasons({"price": "3e-05"}, {"price": 4.0e-5}) == ("evaluate.price: 3e-05 -> 4e-05",)


@pytest.mark.parametrize("before", ["1e400x", "", "knn"])
def test_text_that_is_no_number_stays_text(before: str) -> None:
    assert reasons({"price": before}, {"price": 2.0}) == (f'evaluate.price: "{before}" -> 2.0',)
