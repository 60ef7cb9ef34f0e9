"""The exchange of skills that shows whether a router reads its prompt."""

from __future__ import annotations

from stages.evaluate.reading import Choice, Exchange, Reading, Tally, exchange, exchanges
from stages.shared.episode.prompt import render_prompt
from stages.shared.episode.roster import make_roster
from stages.shared.pool.candidate import Descriptor, TopicSkill
from stages.shared.questions import Question

SKILLS = {"Arlix": (0.9, 0.1), "Bomon": (0.5, 0.5), "Cyqun": (0.2, 0.8)}
ROSTER = make_roster([
    Descriptor(name, 0.4, 1.0, {"stone": TopicSkill(stone, stone, 9), "song": TopicSkill(song, song, 9)})
    for name, (stone, song) in SKILLS.items()
])  # fmt: skip


def test_the_best_and_the_worst_of_a_topic_change_places_under_their_own_names() -> None:
    found = exchange(ROSTER, "stone")
    assert found is not None
    assert (found.best, found.worst) == ("Cyqun", "Arlix")
    assert "stone : 4 90 Cyqun , 4 50 Bomon , 4 20 Arlix" in render_prompt("?", found.roster, "compact")
    assert [entry.name for entry in found.roster.entries] == list(SKILLS)


def test_nothing_is_exchanged_where_nobody_was_measured_or_all_are_alike() -> None:
    assert exchange(ROSTER, "town") is None
    assert exchange(make_roster([Descriptor(n, 1.0, 1.0, {"a": TopicSkill(0.5, 0.5, 9)}) for n in "xy"]), "a") is None


def test_only_single_hop_questions_are_asked_so() -> None:
    single = Question("one ?", ("a",), "nq", "test", "stone")
    several = Question("two ?", ("a",), "hotpotqa", "test", "", 2)
    assert [question.question for question, _ in exchanges([single, several], ROSTER)] == ["one ?"]


def test_a_reader_follows_the_table_and_one_that_knows_names_stays() -> None:
    swapped = Exchange(ROSTER, best="Cyqun", worst="Arlix")
    reader, stubborn, silent = (
        Choice(swapped, "Arlix", "Cyqun"),
        Choice(swapped, "Arlix", "Arlix"),
        Choice(swapped, None, None),
    )
    tally = Tally()
    assert tally.reading is None
    for chunk in ([reader, reader], [stubborn, silent]):
        tally.add(chunk)
    assert tally.reading == Reading(4, best_called=0.75, followed=0.5, stayed=0.25)
