"""The sandbox's seven question sets: each carries the name and the shape of a benchmark (synthetic)."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from stages.shared.errors import ConfigurationError
from stages.shared.params import WorldParams
from stages.shared.questions import Question, Split, SubQuestion
from stages.shared.sandbox.language import draw_wording, phrase, phrase_parts
from stages.shared.sandbox.lexicon import DOMAINS, RELATIONS, Relation
from stages.shared.sandbox.world import Ask, Entity, World

Shape = Callable[[World, Split, random.Random], Ask]
MISSES = 500
"""Draws in a row that bring nothing new, after which a set counts as exhausted."""


def single_hop(popularity: tuple[float, float]) -> Shape:
    """One fact about an entity whose rank lies between these shares of its type (0 is asked about most)."""

    def shape(world: World, split: Split, rng: random.Random) -> Ask:
        """One such ask."""
        relation = rng.choice(RELATIONS)
        entity = rng.choice(_ranked(world, relation.domain, split, popularity))
        return Ask("chain", (relation.name,), (entity.name,))

    return shape


def bridge(fewest: int, most: int) -> Shape:
    """A chain of so many facts, each about the answer of the one before; no entity comes back in it."""

    def shape(world: World, split: Split, rng: random.Random) -> Ask:
        """One such ask."""
        while True:
            domain = rng.choice(DOMAINS)
            entity = rng.choice(_ranked(world, domain, split, (0.0, 1.0)))
            ask = Ask("chain", _relations(domain, rng.randint(fewest, most), rng), (entity.name,))
            met = [entity, *world.walk(ask)]
            if len(set(met)) == len(met):
                return ask

    return shape


def comparison(world: World, split: Split, rng: random.Random) -> Ask:
    """Which of two entities has the higher number; never a tie."""
    while True:
        relation = rng.choice([relation for relation in RELATIONS if relation.answer == "number"])
        first, second = rng.sample(_ranked(world, relation.domain, split, (0.0, 1.0)), 2)
        if world.fact(relation.name, first) != world.fact(relation.name, second):
            return Ask("compare", (relation.name,), (first.name, second.name))


@dataclass(frozen=True)
class Mixture:
    """A shape, and another that takes its place in a share of the questions."""

    main: Shape
    other: Shape | None = None
    share: float = 0.0

    def draw(self, world: World, split: Split, rng: random.Random) -> Ask:
        """One ask."""
        other = self.other if self.other is not None and rng.random() < self.share else None
        return (other or self.main)(world, split, rng)


SHAPES: dict[str, Mixture] = {
    "nq": Mixture(single_hop((0.0, 0.5))),
    "triviaqa": Mixture(single_hop((0.0, 1.0))),
    "popqa": Mixture(single_hop((0.5, 1.0))),
    "hotpotqa": Mixture(bridge(2, 2), comparison, 0.2),
    "2wikimultihopqa": Mixture(bridge(2, 2), comparison, 0.2),
    "musique": Mixture(bridge(2, 4)),
    "bamboogle": Mixture(bridge(2, 2)),
}
"""What each set asks; `stages.shared.sandbox.lexicon` holds how it is worded."""


def make_questions(world: World, dataset: str, split: Split, n: int, rng: random.Random) -> list[Question]:
    """`n` distinct questions of a set's shape and wording, about entities of the split's fold only.

    Raises ConfigurationError when the world is too small for so many.
    """
    made: dict[str, Question] = {}
    misses = 0
    while len(made) < n and misses < MISSES:
        ask = SHAPES[dataset].draw(world, split, rng)
        question = to_question(world, ask, dataset, split, rng)
        misses = misses + 1 if question.id in made else 0
        made.setdefault(question.id, question)
    if len(made) < n:
        raise ConfigurationError(
            f"the sandbox world gives only {len(made)} different {split} questions of {dataset}, "
            f"{n} are wanted; raise world.entities (now {world.params.entities}) or lower ingest.sizes.{split}"
        )
    return list(made.values())


def to_question(world: World, ask: Ask, dataset: str, split: Split, rng: random.Random) -> Question:
    """The ask in a set's wording, with its gold answers and, where it has several hops, its single-hop parts."""
    wording = draw_wording(ask, dataset, rng)
    parts = phrase_parts(world, ask, wording) if ask.hops > 1 else []
    subs = tuple(SubQuestion(text, world.answer(part), part.topic) for part, text in parts)
    return Question(phrase(ask, dataset, rng, wording), world.answer(ask), dataset, split, ask.topic, ask.hops, subs)


def _relations(domain: str, hops: int, rng: random.Random) -> tuple[str, ...]:
    """A chain of relations from a domain whose values, but the last, are entities with facts of their own."""
    names = []
    for hop in range(hops):
        fitting = [item for item in RELATIONS if item.domain == domain and (hop == hops - 1 or item.answer in DOMAINS)]
        relation: Relation = rng.choice(fitting)
        names.append(relation.name)
        domain = relation.answer
    return tuple(names)


def _ranked(world: World, kind: str, split: Split, popularity: tuple[float, float]) -> Sequence[Entity]:
    return _of_ranks(world.params, kind, split, popularity)


@lru_cache(maxsize=256)
def _of_ranks(params: WorldParams, kind: str, split: Split, popularity: tuple[float, float]) -> Sequence[Entity]:
    entities = World.generate(params).entities(kind, split)
    low, high = (int(share * len(entities)) for share in popularity)
    if len(entities[low:high]) < 2:
        raise ConfigurationError(
            f"the sandbox world has {len(entities)} {kind} entities for {split}, too few to ask; "
            f"raise world.entities (now {params.entities})"
        )
    return entities[low:high]
