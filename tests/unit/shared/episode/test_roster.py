"""Rosters: whole or drawn, and the descriptors' file."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.shared.episode.roster import draw_roster, make_roster, read_descriptors, rename, write_descriptors
from stages.shared.errors import ConfigurationError, DataError
from stages.shared.params import RosterParams
from stages.shared.pool.candidate import Descriptor, TopicSkill

POOL = tuple(Descriptor(name, 1.0, 0.5, {"stone": TopicSkill(0.5, 0.6, 7)}) for name in "ABCDEF")
NAMES = [f"N{index}" for index in range(12)]


def test_a_whole_roster_keeps_names_and_order() -> None:
    roster = make_roster(POOL)
    assert [(entry.shown, entry.name) for entry in roster.entries] == [(name, name) for name in "ABCDEF"]
    assert roster.find("C") is roster.entries[2]
    assert roster.find("c") is None


@given(st.integers(), st.booleans(), st.booleans(), st.none() | st.integers(2, 6))
def test_a_drawn_roster_shows_different_candidates_under_different_names(
    seed: int, shuffle: bool, rename: bool, smallest: int | None
) -> None:
    params = RosterParams(shuffle=shuffle, rename=rename, smallest=smallest)
    roster = draw_roster(POOL, random.Random(seed), params, NAMES)
    shown, names = [entry.shown for entry in roster.entries], [entry.name for entry in roster.entries]
    assert len(set(shown)) == len(set(names)) == len(names)
    assert (smallest or 6) <= len(names) <= 6
    assert set(shown) <= set(NAMES) if rename else shown == names
    assert shuffle or names == sorted(names)
    assert all(entry.descriptor.name == entry.name for entry in roster.entries)
    assert roster == draw_roster(POOL, random.Random(seed), params, NAMES)


def test_renamed_candidates_stay_who_they_are() -> None:
    roster = rename(make_roster(POOL), random.Random(1), NAMES)
    assert [entry.name for entry in roster.entries] == list("ABCDEF")
    assert len({entry.shown for entry in roster.entries} & set(NAMES)) == len(POOL)


def test_so_many_of_the_rosters_are_renamed_as_the_share_says() -> None:
    rng, params = random.Random(3), RosterParams(rename=0.8)
    renamed = sum(draw_roster(POOL, rng, params, NAMES).entries[0].shown in NAMES for _ in range(500))
    assert 370 <= renamed <= 430


def test_what_cannot_be_drawn_is_refused_with_the_way_out() -> None:
    rng = random.Random(0)
    with pytest.raises(ConfigurationError, match="needs 6 names, found 1"):
        draw_roster(POOL, rng, RosterParams(rename=1), ["N1"])
    with pytest.raises(ConfigurationError, match="smallest is 7, of 6 candidates; lower it"):
        draw_roster(POOL, rng, RosterParams(smallest=7))
    with pytest.raises(ConfigurationError, match="share the name A"):
        make_roster([POOL[0], POOL[0]])
    with pytest.raises(ConfigurationError, match="no candidate"):
        make_roster([])


def test_descriptors_come_back_from_their_file(tmp_path: Path) -> None:
    path = tmp_path / "descriptors.json"
    written = (replace(POOL[0], summary="«x»", seen=False), replace(POOL[1], skill={}))
    write_descriptors(path, written)
    assert read_descriptors(path) == written


@pytest.mark.parametrize("content", ["", "{}", "[{}]", '[{"name": "A", "price": "dear", "latency_s": 1}]', "[1]"])
def test_a_file_that_says_something_else_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "descriptors.json"
    path.write_text(content)
    with pytest.raises(DataError, match="run the profile stage again"):
        read_descriptors(path)


def test_a_missing_file_names_the_stage_that_writes_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="run the profile stage first"):
        read_descriptors(tmp_path / "descriptors.json")
