"""No paid reply is lost, and none is paid twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.profile.journal import FILE, close_run, digest, open_journal
from stages.shared.errors import ConflictError, IntegrityError
from stages.shared.pool.candidate import Outcome, Reply

REPLY = Reply("it is zumako", Outcome.ANSWERED, 10, 4, 0.25, attempts=2)
FAILED = Reply("", Outcome.TIMED_OUT, detail="no reply within 60 s")


def test_replies_come_back_as_they_were(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        journal.append("Arlix", "what is the élan ?", REPLY)

    with open_journal(tmp_path) as journal:
        assert journal.replies == {("Arlix", "what is the élan ?"): REPLY}


def test_a_failed_call_is_tried_again(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        journal.append("Arlix", "a ?", FAILED)

    with open_journal(tmp_path) as journal:
        assert journal.replies == {}


def test_a_reply_is_on_file_before_the_next_one_comes(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        journal.append("Arlix", "a ?", REPLY)
        assert (tmp_path / FILE).read_text().count("\n") == 1


def test_a_line_that_a_crash_cut_off_is_dropped_and_written_over(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        journal.append("Arlix", "a ?", REPLY)
    with (tmp_path / FILE).open("ab") as handle:
        handle.write(b'{"candidate": "Arl')

    with open_journal(tmp_path) as journal:
        assert list(journal.replies) == [("Arlix", "a ?")]
        journal.append("Arlix", "b ?", REPLY)

    with open_journal(tmp_path) as journal:
        assert list(journal.replies) == [("Arlix", "a ?"), ("Arlix", "b ?")]


@pytest.mark.parametrize(
    "line", [b"garbage\n", b"{}\n", b'{"candidate": "A", "question": "q", "reply": {"outcome": "?"}}\n']
)
def test_a_whole_line_that_is_no_reply_is_named(tmp_path: Path, line: bytes) -> None:
    (tmp_path / FILE).write_bytes(line)

    with pytest.raises(IntegrityError, match="line 1: not a reply"), open_journal(tmp_path):
        pass


def test_two_runs_of_the_same_profile_do_not_meet(tmp_path: Path) -> None:
    with open_journal(tmp_path), pytest.raises(ConflictError, match="in use"), open_journal(tmp_path):
        pass


def test_a_finished_run_leaves_nothing_to_reuse(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with open_journal(folder) as journal:
        journal.append("Arlix", "a ?", REPLY)

    close_run(folder)

    with open_journal(folder) as journal:
        assert journal.replies == {}


def test_the_digest_changes_with_what_replies_depend_on_and_with_nothing_else(make_params) -> None:
    base = make_params()

    def pool(**changes: object):
        return make_params(pool={**base.pool.model_dump(mode="json"), **changes})

    same = [pool(time_scale=0.5), pool(limits={"concurrency": 3, "attempts": 9}), make_params(profile={"questions": 5})]
    other = [pool(limits={"temperature": 0.7}), make_params(world={"seed": 8, "entities": 60})]

    assert {digest(params, ["a ?"]) for params in same} == {digest(base, ["a ?"])}
    assert digest(base, ["a ?"]) not in {digest(base, ["b ?"]), *(digest(params, ["a ?"]) for params in other)}
