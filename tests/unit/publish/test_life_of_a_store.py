"""Whatever two writers do, and wherever they die, channels name whole releases, and no acknowledged move is lost."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from stages.publish.channels import (
    Change,
    Event,
    Position,
    before_current,
    move,
    read_history,
    read_position,
    repair,
)  # fmt: skip
from stages.publish.fetch import fetch_release, list_releases, verify_stored
from stages.publish.folder import FolderStore
from stages.publish.garbage import collect
from stages.publish.location import Location
from stages.publish.release import publish
from stages.publish.s3 import S3Store
from stages.publish.seaweed import Server
from stages.publish.store import Store
from stages.shared.errors import ConflictError
from tests.unit.publish.small import release_of

CHANNEL = "production"
writers = st.sampled_from(["ada", "bob"])
deaths = st.none() | st.tuples(st.integers(0, 6), st.booleans())
"""The write at which the writer dies, and whether it took place; None where it lives."""
deaths_in_a_move = st.none() | st.tuples(st.integers(0, 2), st.booleans())


class LifeOfAStore(RuleBasedStateMachine):
    """Publish, promote from a position that may be stale, roll back, verify, collect; die at any write."""

    dying: Any
    opened: Callable[[Path], Store]
    published = Bundle("published")

    @initialize()
    def found(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.store = self.opened(self.root)
        self.positions: dict[str, Position] = {}
        self.acknowledged: list[Event] = []
        self.committed: set[str] = set()

    def teardown(self) -> None:
        shutil.rmtree(self.root)

    def mortal(self, death: tuple[int, bool] | None) -> Store:
        return self.store if death is None else self.dying(self.store, *death)

    @rule(target=published, seed=st.integers(0, 5), death=deaths)
    def publish(self, seed: int, death: tuple[int, bool] | None) -> str:
        release = release_of(seed)
        try:
            publish(release, self.mortal(death))
            self.committed.add(release.manifest.digest)
        except KeyboardInterrupt:
            pass
        return release.manifest.digest

    @rule(writer=writers)
    def look(self, writer: str) -> None:
        self.positions[writer] = read_position(self.store, CHANNEL)

    @rule(writer=writers, digest=published, fresh=st.booleans(), death=deaths_in_a_move)
    def promote(self, writer: str, digest: str, fresh: bool, death: tuple[int, bool] | None) -> None:
        if fresh:
            self.look(writer)
        if digest in list_releases(self.store):
            self._move(writer, Change("promotion", digest, writer, "better"), death)

    @rule(writer=writers, death=deaths_in_a_move)
    def roll_back(self, writer: str, death: tuple[int, bool] | None) -> None:
        digest = before_current(read_history(self.store, CHANNEL))
        if digest is not None:
            self._move(writer, Change("rollback", digest, writer, "worse"), death)

    def _move(self, writer: str, change: Change, death: tuple[int, bool] | None) -> None:
        position = self.positions.get(writer) or Position(CHANNEL, None, None)
        now = read_position(self.store, CHANNEL)
        try:
            self.acknowledged.append(move(self.mortal(death), position, change))
            assert position.version == now.version
        except ConflictError:
            assert position.version != now.version
            assert read_position(self.store, CHANNEL) == now
        except KeyboardInterrupt:
            pass

    @rule(death=deaths_in_a_move)
    def verify(self, death: tuple[int, bool] | None) -> None:
        with suppress(KeyboardInterrupt):
            repair(self.mortal(death), CHANNEL)

    @rule(death=deaths)
    def collect(self, death: tuple[int, bool] | None) -> None:
        with suppress(KeyboardInterrupt):
            collect(self.mortal(death), timedelta(seconds=-1))

    @invariant()
    def whole_and_linear(self) -> None:
        history = read_history(self.store, CHANNEL)
        assert [event.sequence for event in history] == list(range(1, len(history) + 1))
        assert all(history[event.sequence - 1] == event for event in self.acknowledged)
        listed = set(list_releases(self.store))
        assert self.committed | {event.digest for event in history} <= listed
        for digest in listed:
            assert verify_stored(self.store, digest) == []
        if history:
            with tempfile.TemporaryDirectory() as folder:
                fetch_release(self.store, history[-1].digest, Path(folder) / "pulled")


def live(opened: Callable[[Path], Store], dying: Any, lives: int) -> None:
    machine = type("Life", (LifeOfAStore,), {"dying": dying, "opened": staticmethod(opened)})
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=lives, stateful_step_count=20, deadline=None, suppress_health_check=checks),
    )


def test_a_store_stays_whole_whatever_happens_to_it(dying: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda number: None)
    live(FolderStore, dying, lives=60)


def test_a_store_in_s3_stays_whole_whatever_happens_to_it(dying: Any, server: Server, location: Location) -> None:
    def opened(root: Path) -> Store:
        return S3Store(replace(location, prefix=f"{location.prefix}/{root.name}"), server.keys)

    live(opened, dying, lives=3)
