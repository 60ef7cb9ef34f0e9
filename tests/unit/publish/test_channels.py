"""A channel moves by comparison and swap; its history has no gap and no fork, whoever dies when."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from stages.publish.channels import (
    Change,
    Event,
    Position,
    before_current,
    check_name,
    event_key,
    list_channels,
    move,
    pointer_key,
    read_history,
    read_position,
    repair,
)
from stages.publish.evidence import Check
from stages.publish.folder import FolderStore
from stages.publish.memory import Memory
from stages.publish.store import Store
from stages.shared.errors import ConfigurationError, ConflictError, IntegrityError

RACERS = 16
A, B, C = ("a" * 64, "b" * 64, "c" * 64)


def promote(store: Store, digest: str, channel: str = "production", actor: str = "ada") -> Event:
    return move(store, read_position(store, channel), Change("promotion", digest, actor, f"try {digest[:4]}"))


def rollback(store: Store, channel: str = "production") -> Event:
    target = before_current(read_history(store, channel))
    assert target is not None
    return move(store, read_position(store, channel), Change("rollback", target, "ada", "it was worse"))


def test_a_channel_points_to_what_was_promoted_last(any_store: Store) -> None:
    assert read_position(any_store, "production").event is None
    first = promote(any_store, A)
    second = promote(any_store, B)
    assert read_position(any_store, "production").event == second
    assert (first.sequence, second.sequence) == (1, 2)
    assert (second.previous, second.parent) == (A, first.hash)
    assert read_history(any_store, "production") == [first, second]
    assert list_channels(any_store) == ["production"]


def test_evidence_reason_and_actor_are_kept_with_the_move(folder_store: FolderStore) -> None:
    check = Check(gate="router em on average", wanted="at least 0.7", found="0.812", passed=True)
    change = Change("promotion", A, "ada@desk", "better on musique", "the gate is too strict", (check,))
    move(folder_store, read_position(folder_store, "production"), change)
    (event,) = read_history(folder_store, "production")
    assert (event.evidence, event.override, event.reason) == ((check,), "the gate is too strict", "better on musique")
    assert event.time.endswith("+00:00")


def test_of_racing_promotions_one_wins_and_the_others_hear_by_whom_and_to_what(any_store: Store) -> None:
    promote(any_store, A)
    position = read_position(any_store, "production")

    def race(number: int) -> Event | ConflictError:
        try:
            change = Change("promotion", f"{number:064x}", f"racer-{number}", "me first")
            return move(any_store, position, change)
        except ConflictError as error:
            return error

    with ThreadPoolExecutor(RACERS) as pool:
        ends = list(pool.map(race, range(RACERS)))
    (won,) = (end for end in ends if isinstance(end, Event))
    lost = [end for end in ends if isinstance(end, ConflictError)]
    assert len(lost) == RACERS - 1
    assert all(f"by {won.actor} to {won.digest[:16]}" in str(error) for error in lost)
    assert [event.digest for event in read_history(any_store, "production")] == [A, won.digest]


def test_a_first_promotion_is_raced_for_too(any_store: Store) -> None:
    position = read_position(any_store, "production")
    move(any_store, position, Change("promotion", A, "ada", ""))
    with pytest.raises(ConflictError, match=f"by ada to {A[:16]}"):
        move(any_store, position, Change("promotion", B, "bob", ""))


def test_channels_move_apart_from_each_other(folder_store: FolderStore) -> None:
    promote(folder_store, A, "staging")
    promote(folder_store, B)
    assert list_channels(folder_store) == ["production", "staging"]
    assert [event.digest for event in read_history(folder_store, "staging")] == [A]


def test_each_rollback_takes_one_promotion_off_the_pile(folder_store: FolderStore) -> None:
    for digest in (A, B, C):
        promote(folder_store, digest)
    assert rollback(folder_store).digest == B
    assert rollback(folder_store).digest == A
    assert before_current(read_history(folder_store, "production")) is None
    promote(folder_store, C)
    assert rollback(folder_store).digest == A
    assert [event.previous for event in read_history(folder_store, "production")][-1] == C


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_mover_that_dies_leaves_the_channel_where_it_was_or_where_it_should_be(
    any_store: Store, dying: Any, writes: int, after: bool
) -> None:
    first = promote(any_store, A)
    with pytest.raises(KeyboardInterrupt):
        promote(dying(any_store, writes, after), B)
    event = read_position(any_store, "production").event
    assert event is not None
    moved = writes == 2 or (writes == 1 and after)
    assert event.digest == (B if moved else A)
    assert read_history(any_store, "production") == ([first, event] if moved else [first])
    third = promote(any_store, C)
    assert [event.digest for event in read_history(any_store, "production")] == ([A, B, C] if moved else [A, C])
    assert third.sequence == len(read_history(any_store, "production"))


def test_an_event_whose_writer_died_is_written_down_by_repair(folder_store: FolderStore, dying: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        promote(dying(folder_store, 1), A)
    assert folder_store.read(event_key("production", 1)) is None
    assert repair(folder_store, "production")
    assert not repair(folder_store, "production")
    assert folder_store.read(event_key("production", 1)) is not None


class LostReply(FolderStore):
    """The swap takes place, its reply is lost, and it is sent again, as an S3 client does."""

    def swap(self, key: str, content: bytes, expected: str | None) -> bool:
        super().swap(key, content, expected)
        self.meanwhile()
        return super().swap(key, content, expected)

    def meanwhile(self) -> None:
        pass


def test_a_swap_whose_reply_was_lost_is_not_taken_for_a_lost_race(tmp_path: Path) -> None:
    store = LostReply(tmp_path)
    assert promote(store, A) == read_position(store, "production").event


def test_not_even_when_somebody_moved_the_channel_on_already(tmp_path: Path) -> None:
    class Overtaken(LostReply):
        def meanwhile(self) -> None:
            promote(FolderStore(tmp_path), B, actor="bob")

    assert promote(Overtaken(tmp_path), A).digest == A
    assert [event.digest for event in read_history(FolderStore(tmp_path), "production")] == [A, B]


@pytest.mark.parametrize("sequence", [1, 2])
def test_an_event_that_was_changed_or_removed_is_found(
    folder_store: FolderStore, tmp_path: Path, sequence: int
) -> None:
    for digest in (A, B, C):
        promote(folder_store, digest)
    path = tmp_path / "store" / event_key("production", sequence)
    path.write_bytes(path.read_bytes().replace(b'"ada"', b'"eve"'))
    with pytest.raises(IntegrityError, match="does not follow"):
        read_history(folder_store, "production")
    path.unlink()
    with pytest.raises(IntegrityError, match="has a gap"):
        read_history(folder_store, "production")


def test_a_forged_pointer_is_not_built_on(folder_store: FolderStore, tmp_path: Path) -> None:
    promote(folder_store, A)
    path = tmp_path / "store" / pointer_key("production")
    path.write_bytes(path.read_bytes().replace(A.encode(), B.encode()))
    with pytest.raises(IntegrityError, match="another event than the pointer"):
        promote(folder_store, C)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(IntegrityError, match="no event of a channel"):
        read_position(folder_store, "production")


@pytest.mark.parametrize("name", ["", "Production", "a/b", "..", "latest", "beef01", "x" * 64, "a b"])
def test_a_name_that_could_be_mistaken_is_no_channel(name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be a channel"):
        check_name(name)


def test_a_channel_that_goes_back_is_refused(folder_store: FolderStore, tmp_path: Path) -> None:
    memory, path = Memory(tmp_path, "here"), tmp_path / "store" / pointer_key("production")
    promote(folder_store, A)
    old = path.read_bytes()
    promote(folder_store, B)
    assert memory.observe(folder_store, "production").event == read_position(folder_store, "production").event
    path.write_bytes(old)
    with pytest.raises(IntegrityError, match="at number 1, and was at 2 before"):
        memory.observe(folder_store, "production")
    path.unlink()
    with pytest.raises(IntegrityError, match="is gone"):
        Memory(tmp_path, "here").observe(folder_store, "production")
    assert Memory(tmp_path, "elsewhere").observe(folder_store, "production").event is None


def test_another_history_of_the_same_length_is_refused(tmp_path: Path) -> None:
    memory = Memory(tmp_path, "here")
    ours, theirs = FolderStore(tmp_path / "ours"), FolderStore(tmp_path / "theirs")
    promote(ours, A)
    promote(theirs, A)
    memory.observe(ours, "production")
    with pytest.raises(IntegrityError, match="another event of number 1"):
        memory.observe(theirs, "production")


@pytest.mark.parametrize("moves", [2, 3])
def test_another_history_that_went_on_is_refused_too(tmp_path: Path, moves: int) -> None:
    """A store put back from a backup forgets moves that were acknowledged, and soon has as many as before."""
    memory = Memory(tmp_path, "here")
    store, backup = FolderStore(tmp_path / "store"), FolderStore(tmp_path / "backup")
    promote(store, A)
    shutil.copytree(tmp_path / "store", tmp_path / "backup")
    promote(store, B)
    memory.observe(store, "production")
    for _ in range(moves):
        promote(backup, C)
    with pytest.raises(IntegrityError, match=f"came to number {moves + 1} by another history"):
        memory.observe(backup, "production")
    for _ in range(moves):
        promote(store, C)
    assert memory.observe(store, "production").event == read_position(store, "production").event


def test_whoever_removes_the_event_that_was_seen_hides_no_other_history(
    folder_store: FolderStore, tmp_path: Path
) -> None:
    memory = Memory(tmp_path, "here")
    promote(folder_store, A)
    memory.observe(folder_store, "production")
    for digest in (B, C):
        promote(folder_store, digest)
    folder_store.remove(event_key("production", 1))
    with pytest.raises(IntegrityError, match=r"has lost its event of number 1.*remove .*\.json"):
        memory.observe(folder_store, "production")


def test_what_no_encoding_spells_is_kept_as_a_question_mark(folder_store: FolderStore) -> None:
    """A letter from a terminal that does not speak UTF-8 must not make a pointer that nobody can read."""
    half = b"caf\xe9".decode("utf-8", "surrogateescape")
    check = Check(gate=half, wanted=half, found=half, passed=True)
    moved = move(folder_store, Position("production", None, None), Change("promotion", A, half, half, half, (check,)))
    assert (moved.actor, moved.reason, moved.override, moved.evidence[0].found) == ("caf?",) * 4
    assert read_history(folder_store, "production") == [moved]


def test_watchers_and_movers_at_once_raise_no_false_alarm(folder_store: FolderStore, tmp_path: Path) -> None:
    promote(folder_store, A)

    def turn(number: int) -> None:
        Memory(tmp_path, "here").observe(folder_store, "production")
        if number % 4 == 0:
            promote(folder_store, f"{number:064x}")

    with ThreadPoolExecutor(1) as movers, ThreadPoolExecutor(8) as watchers:
        turns = [movers.submit(turn, number) for number in range(0, 80, 4)]
        turns += [watchers.submit(turn, number) for number in range(80) if number % 4]
        assert [each.result() for each in turns] == [None] * 80


def test_a_damaged_memory_says_what_to_do(folder_store: FolderStore, tmp_path: Path) -> None:
    memory = Memory(tmp_path, "here")
    promote(folder_store, A)
    memory.observe(folder_store, "production")
    (path,) = (tmp_path / "channels").glob("*.json")
    path.write_text("[]")
    with pytest.raises(IntegrityError, match="remove it"):
        memory.observe(folder_store, "production")
