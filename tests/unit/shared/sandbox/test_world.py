"""The sandbox's world: names that nobody else has, however many entities there are."""

from __future__ import annotations

import pytest

from stages.shared.params import WorldParams
from stages.shared.sandbox.lexicon import SYLLABLES
from stages.shared.sandbox.world import World


def test_a_world_with_more_entities_than_names_of_three_syllables_takes_four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.shared.sandbox.world.CROWDED", 100)
    names = list(World.generate(WorldParams(seed=977, entities=60)).by_name)
    lengths = [sum(name[place : place + 2] in SYLLABLES for place in range(0, len(name), 2)) for name in names]
    assert len(names) == len(set(names)) > 300
    assert (set(lengths[:100]), set(lengths[110:])) == ({3}, {4})
