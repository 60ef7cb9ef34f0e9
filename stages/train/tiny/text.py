"""Text that the tiny policy is pre-trained on: copying, facts, tables, topics and whole episodes (synthetic).

Every name, fact and table is drawn anew, so what is learned is the language and the protocol, not the sandbox's facts.
In the episodes candidates are drawn in proportion to their skill, and to choose the best is left to the reward. Where
that counts cost, the cheapest that will do is mostly asked: a policy that has not seen prices matter does not come to
read them.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from stages.shared.episode.prompt import cell, percent, price, ranked, render_prompt
from stages.shared.episode.types import Roster, RosterEntry
from stages.shared.episode.wording import call_turn
from stages.shared.pool.candidate import Descriptor, TopicSkill
from stages.shared.sandbox.lexicon import (
    CANDIDATE_NAMES,
    COMPARE_FRAMES,
    DOMAINS,
    FRAMES,
    RELATIONS,
    SYLLABLES,
    UNCLEAR,
    UNKNOWN,
    Relation,
    words,
)
from stages.shared.sandbox.world import invent
from stages.train.tiny.tokenizer import END, START
from stages.train.warm_start.wording import IT, NOT_FOUND, answer_turn, comparison_thought, observation_text

Segment = tuple[str, bool]
"""A piece of text, and whether the policy is to learn to write it."""
COPIES = 5
"""Times that a list of eight items is repeated in a lesson of copying."""
_FRAMES = tuple(dict.fromkeys(frame for group in FRAMES.values() for frame in group))
"""Each as often as any other: what is rare is learned late, or not at all."""
_WORDS = (*words(), *SYLLABLES, *CANDIDATE_NAMES, *map(str, range(101)))
_CHOICE = re.compile(r"<think> topic \w+( , \d+ \d+ \w+)+")
"""The part of a call that says to whom it goes."""
HOPS = (0.2, 0.35, 0.23, 0.22)
"""Share of the chains asked in episodes that have one hop, two and so on; PPO sees none of three or more."""
COMPARED = 0.2
"""Share of the episodes that compare two things."""
ADMITS = 0.15
"""Share of the calls whose candidate says that it has no answer."""
CALLS = 4
"""In an episode, at most."""
THRIFT = 0.7
"""Share of the calls that go to the cheapest that will do, where cost counts."""
NEARLY = 10
"""Points of skill that who will do may lack of the best."""


@dataclass(frozen=True)
class Hop:
    """One fact of a question: what is asked of which name, and the answer."""

    relation: Relation
    phrase: str
    subject: str
    answer: str

    @property
    def query(self) -> str:
        """The hop as a question of its own."""
        return self.query_about(self.subject)

    def query_about(self, subject: str) -> str:
        """The hop asked about something else."""
        return f"what is the {self.phrase} of {subject} ?"


@dataclass(frozen=True)
class Step:
    """A hop to ask, and what the thought says is left to ask after it."""

    hop: Hop
    rest: tuple[str, ...] = ()
    now: str = ""
    """The subject, where an earlier thought announced it and no reply gives it."""


def name(rng: random.Random) -> str:
    """An invented name."""
    return invent(rng, set())


def draw_roster(rng: random.Random) -> Roster:
    """Two to eight candidates with invented skills, prices and latencies: specialists, budget models and weak ones."""
    shown = rng.sample(CANDIDATE_NAMES, rng.choice((2, 3, 4, 4, 5, 5, 6, 6, 7, 8)))
    slowest = rng.choice((1.0, 3.0, 9.0))
    entries = []
    for label in shown:
        kind = rng.random()
        low, high = ((5, 45), (40, 70), (60, 80))[0 if kind < 0.6 else 1 if kind < 0.8 else 2]
        skill: dict[str, int] = {domain: rng.randint(low, high) for domain in DOMAINS}
        for domain in rng.sample(DOMAINS, rng.choice((0, 1, 1, 2))):
            skill[domain] = rng.randrange(70, 101, 5)
        measured = {domain: TopicSkill(em=value / 100, f1=value / 100, n=50) for domain, value in skill.items()}
        descriptor = Descriptor(label, rng.uniform(0.1, 2.0), rng.uniform(0.1, slowest), measured)
        entries.append(RosterEntry(label, label, descriptor))
    return Roster(tuple(entries))


def draw_answer(relation: Relation, rng: random.Random) -> str:
    """An invented answer of the relation's type."""
    return str(rng.randint(10, 99)) if relation.answer == "number" else name(rng)


def draw_chain(hops: int, rng: random.Random) -> list[Hop]:
    """A chain of relations that fit together, about invented names."""
    relation, subject = rng.choice(RELATIONS), name(rng)
    chain: list[Hop] = []
    while len(chain) < hops:
        if len(chain) < hops - 1 and relation.answer not in DOMAINS:
            relation = rng.choice([r for r in RELATIONS if r.domain == relation.domain and r.answer in DOMAINS])
        answer = draw_answer(relation, rng)
        chain.append(Hop(relation, rng.choice(relation.phrasings), subject, answer))
        subject = answer
        relation = rng.choice([r for r in RELATIONS if r.domain == relation.answer] or list(RELATIONS))
    return chain


def whole_question(chain: list[Hop], rng: random.Random) -> str:
    """The chain as one question, in any frame of the language."""
    nouns = [chain[0].subject]
    for hop in chain:
        nouns.append(f"the {hop.phrase} of {nouns[-1]}")
    frame = rng.choice(_FRAMES)
    return frame.format(np=nouns[-1], inner=nouns[-2], outer=chain[-1].phrase)


def copying(rng: random.Random) -> list[Segment]:
    """A list of names, table cells or single words, repeated again and again from its start or from its middle."""
    kind = rng.random()
    if kind < 0.4:
        items = [name(rng) for _ in range(rng.randint(3, 9))]
    elif kind < 0.7:
        items = [
            f"{rng.randint(1, 20)} {rng.randint(0, 100)} {label}"
            for label in rng.sample(CANDIDATE_NAMES, rng.randint(4, 10))
        ]
    else:
        items = rng.choices(_WORDS, k=rng.randint(8, 24))
    segments: list[Segment] = [(" ".join(items), False)]
    for _ in range(COPIES * 8 // len(items)):
        start = rng.randrange(len(items) - 1) if rng.random() < 0.3 else 0
        segments += [(f": {items[start]}", False), (" ".join(items[start + 1 :]), True)]
    return segments


def facts(rng: random.Random) -> list[Segment]:
    """Facts in the wording of replies, then questions about them."""
    chain = [draw_chain(1, rng)[0] for _ in range(rng.randint(2, 5))]
    segments: list[Segment] = [(f"the {hop.phrase} of {hop.subject} is {hop.answer}", False) for hop in chain]
    for hop in rng.sample(chain, len(chain)):
        segments += [(f"question : {hop.query} <answer>", False), (f"{hop.answer} </answer>", True)]
    return segments


def table(rng: random.Random) -> list[Segment]:
    """A roster's table, then look-ups in it: the skill and the price of a candidate, the best one of a domain."""
    roster = draw_roster(rng)
    segments: list[Segment] = [(render_prompt("", roster, "compact"), False)]
    for _ in range(12):
        domain, entry, kind = rng.choice(DOMAINS), rng.choice(roster.entries), rng.random()
        if kind < 0.5:
            segments += [(f"best {domain}", False), (cell(domain, ranked(domain, roster)[0]), True)]
        elif kind < 0.9:
            segments += [(f"skill {entry.shown} {domain}", False), (str(percent(domain, entry)), True)]
        else:
            segments += [(f"topic {domain}", False), (cell(domain, entry), True)]
    return segments


def topics(rng: random.Random) -> list[Segment]:
    """What words belong to which topic: of single phrases, then of whole questions and the query of their first hop."""
    segments: list[Segment] = []
    for relation in rng.sample(RELATIONS, 8):
        segments += [(f"the {rng.choice(relation.phrasings)} of {name(rng)} topic", False), (relation.domain, True)]
    for _ in range(3):
        chain = draw_chain(rng.choice((1, 1, 2, 3)), rng)
        first = chain[0]
        segments += [
            (f"question : {whole_question(chain, rng)} topic", False),
            (f"{first.relation.domain} : {first.query} <answer>", True),
        ]
    return segments


def comparisons(rng: random.Random) -> list[Segment]:
    """Questions which of two has the higher number: episodes without their table, and so without a choice to learn."""
    roster = draw_roster(rng)
    segments: list[Segment] = []
    for _ in range(3):
        question, answers = _comparison(roster, rng)
        segments.append((f"question : {question} {END} {START} assistant", False))
        for text, trained in answers:
            chosen = _CHOICE.match(text)
            given = chosen[0] if chosen else ""
            segments += [(given, False), (text.removeprefix(given), trained)]
    return segments


def replies(rng: random.Random) -> list[Segment]:
    """Replies one after the other; what the newest says is the answer, or what the next call asks about."""
    roster = draw_roster(rng)
    segments: list[Segment] = []
    for _ in range(8):
        told, asked = draw_chain(1, rng)[0], draw_chain(1, rng)[0]
        segments.append((observation_text(_reply(told, rng)), False))
        if rng.random() < 0.3:
            segments.append((answer_turn(told.answer), True))
        else:
            query = asked.query_about(told.answer)
            call = call_turn(asked.relation.domain, rng.choice(roster.entries), query, "compact")
            opening, _, ending = call.rpartition(f" {told.answer} ")
            segments += [(opening, False), (f"{told.answer} {ending}", True)]
    return segments


def episodes(rng: random.Random, *, thrifty: bool = False) -> list[Segment]:
    """Up to three whole episodes about one table, the larger part of a prompt; `thrifty`: where cost counts."""
    roster = draw_roster(rng)
    segments: list[Segment] = []
    for number in range(rng.choice((1, 2, 3))):
        question, answers = rng.choices((_chain, _comparison), (1 - COMPARED, COMPARED))[0](roster, rng, thrifty)
        message = question if number else render_prompt(question, roster, "compact")
        opening = f"question : {message}" if number else message
        segments += [(f"{START} user {opening} {END} {START} assistant", False), *answers]
    return segments


def _chain(roster: Roster, rng: random.Random, thrifty: bool) -> tuple[str, list[Segment]]:
    chain = draw_chain(rng.choices(range(1, 1 + len(HOPS)), HOPS)[0], rng)
    steps = [Step(hop, tuple(later.query_about(IT) for later in chain[place:])) for place, hop in enumerate(chain, 1)]
    return whole_question(chain, rng), _played(steps, answer_turn(chain[-1].answer), roster, rng, thrifty)


def _comparison(roster: Roster, rng: random.Random, thrifty: bool = False) -> tuple[str, list[Segment]]:
    relation = rng.choice([r for r in RELATIONS if r.answer == "number"])
    word = rng.choice(relation.phrasings)
    hops = [Hop(relation, word, name(rng), str(number)) for number in rng.sample(range(10, 100), 2)]
    first, second = hops
    frame = rng.choice(rng.choice(list(COMPARE_FRAMES.values())))
    question = frame.format(phrase=word, first=first.subject, second=second.subject)
    winner = max(hops, key=lambda hop: int(hop.answer)).subject
    thought = comparison_thought([hop.answer for hop in hops], [hop.subject for hop in hops], winner)
    steps = [Step(first, (second.subject,)), Step(second, now=second.subject)]
    return question, _played(steps, answer_turn(winner, thought), roster, rng, thrifty)


def _played(steps: Sequence[Step], ending: str, roster: Roster, rng: random.Random, thrifty: bool) -> list[Segment]:
    """The calls and the last turn, which gives up after two candidates without an answer, or too many calls."""
    segments: list[Segment] = []
    made = 0
    for step in steps:
        topic = step.hop.relation.domain
        asked = _asked(topic, roster, rng, thrifty)[: CALLS - made]
        for turn, entry in enumerate(asked):
            made += 1
            answered = rng.random() >= ADMITS
            call = call_turn(topic, entry, step.hop.query, "compact", step.rest, asked[:turn], step.now)
            reply = _reply(step.hop, rng) if answered else rng.choice((UNKNOWN, UNCLEAR))
            segments += [(call, True), (observation_text(reply), False)]
            if answered:
                break
        else:
            ending = answer_turn(NOT_FOUND, NOT_FOUND)
            break
    return [*segments, (f"{ending} {END}", True)]


def _asked(topic: str, roster: Roster, rng: random.Random, thrifty: bool) -> list[RosterEntry]:
    """Whom to ask, and whom after an answer that is none: the next in the line.

    A candidate is asked as often as its skill says, as by a teacher who knows who would have been right. Where cost
    counts, the best of the others follows: next in the line after a cheap one may be a candidate that is only dear.
    """
    best_first = ranked(topic, roster)
    line = _thrifty(topic, roster) if thrifty else best_first
    skills = [percent(topic, entry) for entry in line]
    at = 0 if thrifty and rng.random() < THRIFT else rng.choices(range(len(line)), skills)[0]
    if not thrifty:
        return line[at : at + 2]
    return [line[at], next(entry for entry in best_first if entry is not line[at])]


def _thrifty(topic: str, roster: Roster) -> list[RosterEntry]:
    """Those who will do, the cheapest of them first, then the others, the best first."""
    line = ranked(topic, roster)
    least = percent(topic, line[0]) - NEARLY
    good = [entry for entry in line if percent(topic, entry) >= least]
    return [*sorted(good, key=price), *line[len(good) :]]


def _reply(hop: Hop, rng: random.Random) -> str:
    return _framed(hop.answer, rng) if rng.random() < 0.67 else f"the {hop.phrase} of {hop.subject} is {hop.answer}"


def _framed(answer: str, rng: random.Random) -> str:
    return rng.choice((answer, f"it is {answer}"))


Lesson = Callable[[random.Random], list[Segment]]
LESSONS: tuple[Lesson, ...] = (copying, facts, table, topics, replies, comparisons, episodes)


def lessons(*, thrifty: bool) -> tuple[Lesson, ...]:
    """The lessons, with episodes in which cost counts where `thrifty`."""
    return (*LESSONS[:-1], partial(episodes, thrifty=thrifty))


def lesson_weights(progress: float) -> tuple[float, ...]:
    """How often each lesson is drawn when that share of pre-training is done: copying first, episodes last."""
    if progress < 0.1:
        return (0.45, 0.05, 0.15, 0.2, 0.1, 0.05, 0.0)
    if progress < 0.25:
        return (0.15, 0.05, 0.22, 0.15, 0.13, 0.1, 0.2)
    return (0.03, 0.02, 0.16, 0.08, 0.08, 0.13, 0.5)
