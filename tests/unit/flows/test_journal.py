"""The journal in git tags: whatever machine writes it, it is the same, and it knows when the store goes back."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from flows import journal
from stages.shared.errors import IntegrityError, PipelineError

STORE, OTHER = "3f9a1c2e", "00c0ffee"
FIRST, SECOND = f"release/{STORE}/production/000001", f"release/{STORE}/production/000002"


def event(sequence: int, **changes: Any) -> dict[str, Any]:
    return {
        "channel": "production", "sequence": sequence, "kind": "promotion", "digest": f"{sequence:064x}",
        "actor": "ada <ada@desk>", "reason": "better\non musique, é", "time": "2026-11-22T03:00:00+00:00", **changes,
    }  # fmt: skip


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository before its first commit, of a user who signs tags."""
    return repository(tmp_path / "one")


def repository(folder: Path) -> Path:
    folder.mkdir()
    git(folder, "init", "-q")
    git(folder, "config", "tag.gpgSign", "true")
    return folder


def test_a_move_becomes_an_annotated_tag_that_says_who_what_and_why(root: Path) -> None:
    assert journal.write(root, STORE, [event(1)]) == [FIRST]
    said = git(root, "for-each-ref", "--format=%(objecttype) %(taggername) %(contents:subject)", f"refs/tags/{FIRST}")
    assert said.startswith(
        "tag ada ada@desk production serves 0000000000000000 (promotion by ada ada@desk) better on mus"
    )
    assert json.loads(journal.read(root)[FIRST]) == event(1)
    assert journal.write(root, STORE, [event(1)]) == []


def test_every_machine_writes_the_same_tag(root: Path, tmp_path: Path) -> None:
    other = repository(tmp_path / "two")
    for each in (root, other):
        journal.write(each, STORE, [event(1)])
    assert git(root, "rev-parse", FIRST) == git(other, "rev-parse", FIRST)
    git(other, "push", "-q", str(root), f"refs/tags/{FIRST}")


def test_what_a_writer_did_not_note_is_repaired(root: Path) -> None:
    journal.write(root, STORE, [event(2)])
    assert journal.repair(root, STORE, [event(1), event(2)], whole=True) == [FIRST]
    assert journal.repair(root, STORE, [event(1), event(2)], whole=True) == []


def test_another_move_of_the_same_number_is_found_and_not_written_over(root: Path) -> None:
    journal.write(root, STORE, [event(1)])
    with pytest.raises(IntegrityError, match=f"other moves than the store: {FIRST}"):
        journal.write(root, STORE, [event(1, actor="eve")])
    said: list[str] = []
    journal.note(root, STORE, event(1, actor="eve"), said.append)
    assert "production was moved, and the store has it on record" in said[0]
    assert json.loads(journal.read(root)[FIRST])["actor"].startswith("ada")


def test_a_store_that_went_back_is_found(root: Path) -> None:
    journal.write(root, STORE, [event(1), event(2), event(1, channel="staging")])
    with pytest.raises(IntegrityError, match=f"does not have: {SECOND}. The store went back"):
        journal.repair(root, STORE, [event(1)], whole=False)
    with pytest.raises(IntegrityError, match=f"{SECOND}, release/{STORE}/staging/000001"):
        journal.repair(root, STORE, [event(1)], whole=True)


def test_stores_of_one_checkout_have_a_journal_each(root: Path) -> None:
    journal.write(root, STORE, [event(1), event(2)])
    assert journal.write(root, OTHER, [event(1, actor="eve")]) == [FIRST.replace(STORE, OTHER)]
    assert journal.repair(root, OTHER, [event(1, actor="eve")], whole=True) == []
    with pytest.raises(IntegrityError, match=f"does not have: {SECOND}. The store went back"):
        journal.repair(root, STORE, [event(1)], whole=True)


def test_tags_of_somebody_else_are_let_be(root: Path) -> None:
    journal.write(root, STORE, [event(1)])
    git(root, "-c", "tag.gpgSign=false", "tag", "release/v1.0", FIRST)
    assert journal.repair(root, STORE, [event(1)], whole=True) == []


def test_what_git_refuses_is_said_in_its_words(root: Path) -> None:
    journal.write(root, STORE, [event(1)])
    git(root, "-c", "tag.gpgSign=false", "tag", f"release/{STORE}/staging", FIRST)
    with pytest.raises(PipelineError, match=f"release/{STORE}/staging"):
        journal.write(root, STORE, [event(1, channel="staging")])
