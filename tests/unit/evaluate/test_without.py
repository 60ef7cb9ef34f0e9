"""A router as it stands, when candidates are taken away."""

from __future__ import annotations

import pytest

from stages.evaluate.routers.catalogue import FITS, SLOW
from stages.shared.errors import DataError
from stages.shared.params import RecordsMethod
from tests.unit.evaluate.test_routers import PARAMS, QUESTIONS, asked, panel


@pytest.mark.parametrize("gone", ["Arlix", "Bomon", "Cyqun", "nobody"])
@pytest.mark.parametrize("method", sorted(set(FITS) - SLOW))
def test_without_a_candidate_it_is_never_called_and_without_nobody_nothing_changes(
    method: RecordsMethod, gone: str
) -> None:
    """What was fitted stays as it is; a method that would have to be fitted again, or has too few left, says so."""
    known = panel()
    told = asked(*QUESTIONS, "what else ?", reply=lambda place, name: "gold" if name == "Arlix" else f"wrong {name}")
    router = FITS[method](known, PARAMS)
    if gone != "nobody" and method in ("acar", "consistency-cascade"):
        with pytest.raises(DataError, match=r"needs (3|two) candidates"):
            router.without({gone})
        return
    less = router.without({gone})
    if gone == "nobody":
        assert less is not None
        assert less.decide(told) == router.decide(told)
    elif less is None:
        assert (method, gone) in {("hybrid-llm", "Arlix"), ("hybrid-llm", "Bomon")}
    else:
        for thrift in (0.0, 1.0):
            assert all(gone not in choice.called for choice in less.decide(told, thrift)), thrift


def test_what_is_left_is_chosen_as_before() -> None:
    """The estimates of the others do not move: the second best becomes the best."""
    told = asked(*QUESTIONS)
    for method in ("mlp", "irt-router", "routoo"):
        router = FITS[method](panel(), PARAMS)  # type: ignore[index]
        less = router.without({"Arlix"})
        assert less is not None
        names, estimates = router.history.candidates, router.estimate(told)  # type: ignore[attr-defined]
        left = [place for place, name in enumerate(names) if name != "Arlix"]
        best = [names[left[place]] for place in estimates[:, left].argmax(axis=1)]
        assert [choice.taken for choice in less.decide(told)] == best, method
