"""Does the router read its prompt? Two candidates exchange their skills in the table, and its choice should follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from stages.shared.episode.types import Episode, Roster
from stages.shared.questions import Question


@dataclass(frozen=True)
class Exchange:
    """A roster in which the best candidate of a topic and the worst have each other's skills, names unchanged."""

    roster: Roster
    best: str
    """The candidate that is shown as the best, and was the worst."""
    worst: str


@dataclass(frozen=True)
class Choice:
    """Whom the router called first for a single-hop question: as the table is, and with two skills exchanged."""

    exchange: Exchange
    as_is: str | None
    exchanged: str | None


@dataclass(frozen=True)
class Reading:
    """Shares of the single-hop questions, by first call."""

    n: int
    best_called: float
    """The best candidate of the topic was called, with the table as it is."""
    followed: float
    """With skills exchanged, the one that the table now shows as the best was called."""
    stayed: float
    """With skills exchanged, the one that was the best before was called nonetheless."""


def exchange(roster: Roster, topic: str) -> Exchange | None:
    """The best and the worst of a topic exchanged; None where nobody was measured on it or all are alike."""
    skills = {entry.shown: known.em for entry in roster.entries if (known := entry.descriptor.skill.get(topic))}
    best, worst = (choose(skills, key=lambda name: skills[name], default="") for choose in (max, min))
    if not skills or skills[best] == skills[worst]:
        return None
    of = {entry.shown: entry.descriptor.skill for entry in roster.entries}
    swapped = {best: of[worst], worst: of[best]}
    entries = tuple(
        replace(entry, descriptor=replace(entry.descriptor, skill=swapped.get(entry.shown, of[entry.shown])))
        for entry in roster.entries
    )
    return Exchange(Roster(entries), best=worst, worst=best)


def exchanges(questions: Sequence[Question], roster: Roster) -> list[tuple[Question, Exchange]]:
    """Every single-hop question with the roster exchanged for its topic, which those of one topic share."""
    single = [question for question in questions if question.hops == 1]
    by_topic = {topic: exchange(roster, topic) for topic in {question.topic for question in single}}
    pairs = [(question, by_topic[question.topic]) for question in single]
    return [(question, found) for question, found in pairs if found is not None]


def first_called(episode: Episode) -> str | None:
    """The name, as shown, that the first call went to."""
    return episode.calls[0].shown if episode.calls else None


@dataclass
class Tally:
    """Choices, counted, however many there are."""

    n: int = 0
    best_called: int = 0
    followed: int = 0
    stayed: int = 0

    def add(self, choices: Sequence[Choice]) -> None:
        """More of them."""
        self.n += len(choices)
        self.best_called += sum(choice.as_is == choice.exchange.worst for choice in choices)
        self.followed += sum(choice.exchanged == choice.exchange.best for choice in choices)
        self.stayed += sum(choice.exchanged == choice.exchange.worst for choice in choices)

    @property
    def reading(self) -> Reading | None:
        """The shares; None without choices."""
        if not self.n:
            return None
        return Reading(self.n, self.best_called / self.n, self.followed / self.n, self.stayed / self.n)
