"""The sandbox world: invented entities, and facts that connect them (synthetic, everything follows from the seed)."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from stages.shared.params import WorldParams
from stages.shared.sandbox.lexicon import BY_NAME, DOMAINS, SYLLABLES, AnswerType, words

Fold = Literal["train", "profiling", "validation", "test"]
FOLDS: tuple[tuple[Fold, float], ...] = (("train", 0.55), ("profiling", 0.15), ("validation", 0.1), ("test", 0.2))
ALIASED = 0.2
"""Share of entities that have a second name."""
CROWDED = 100_000
"""Names taken from which on a new one has four syllables: there are 248,178 of three."""
LOWEST, HIGHEST = 10, 99
"""Range of a number fact."""


@dataclass(frozen=True, slots=True)
class Entity:
    """A thing of the world. `rank` orders a type by popularity: 0 is asked about most."""

    name: str
    type: AnswerType
    fold: Fold
    rank: int
    alias: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that it answers to."""
        return (self.name,) if self.alias is None else (self.name, self.alias)


@dataclass(frozen=True)
class Ask:
    """What a question means: a chain of relations from one entity, or which of two entities has the higher number."""

    kind: Literal["chain", "compare"]
    relations: tuple[str, ...]
    entities: tuple[str, ...]

    @property
    def hops(self) -> int:
        """Facts needed to answer."""
        return len(self.relations) if self.kind == "chain" else 2

    @property
    def topic(self) -> str:
        """The domain of a single-hop ask, "" otherwise."""
        return BY_NAME[self.relations[0]].domain if self.hops == 1 else ""


@dataclass(frozen=True)
class World:
    """Entities by type, and the facts between them. Facts stay within a fold, so that splits share no entity."""

    params: WorldParams
    by_type: dict[str, tuple[Entity, ...]]
    by_name: dict[str, Entity] = field(repr=False)

    @staticmethod
    def generate(params: WorldParams) -> World:
        """The world of these parameters; the same object for the same parameters."""
        return _generate(params)

    def entities(self, kind: str, fold: Fold | None = None) -> tuple[Entity, ...]:
        """Entities of a type, in order of popularity."""
        return self.by_type[kind] if fold is None else _fold(self, kind, fold)

    def find(self, name: str) -> Entity | None:
        """The entity of that name or alias, spelled exactly."""
        return self.by_name.get(name)

    def fact(self, relation: str, entity: Entity) -> Entity | int:
        """What `relation` gives for `entity`: another entity of the same fold, or a number from 10 to 99."""
        rng = self.chance("fact", relation, entity.name)
        answer = BY_NAME[relation].answer
        if answer == "number":
            return rng.randint(LOWEST, HIGHEST)
        return _other(self, answer, entity.fold, entity.name, rng)

    def number(self, relation: str, name: str) -> int:
        """A number fact. Raises KeyError where the relation gives something else."""
        value = self.fact(relation, self.by_name[name])
        if not isinstance(value, int):
            raise KeyError(f"{relation} gives no number")
        return value

    def walk(self, ask: Ask) -> list[Entity | int]:
        """The true value after each hop of a chain. Raises KeyError where the chain does not fit the types."""
        value: Entity | int = self.by_name[ask.entities[0]]
        values = []
        for relation in ask.relations:
            if isinstance(value, int) or value.type != BY_NAME[relation].domain:
                raise KeyError(f"{relation} does not apply to {value}")
            value = self.fact(relation, value)
            values.append(value)
        return values

    def answer(self, ask: Ask) -> tuple[str, ...]:
        """Gold answers: the name and, where there is one, the alias."""
        if ask.kind == "chain":
            return spellings(self.walk(ask)[-1])
        winner = max(ask.entities, key=lambda name: self.number(ask.relations[0], name))
        return self.by_name[winner].names

    def wrong(self, ask: Ask, rng: random.Random) -> str:
        """A plausible wrong answer: of the right type and the same fold."""
        right = self.answer(ask)
        if ask.kind == "compare":
            return next(name for name in ask.entities if name not in right)
        answer = BY_NAME[ask.relations[-1]].answer
        if answer == "number":
            return str(rng.choice([n for n in range(LOWEST, HIGHEST + 1) if str(n) not in right]))
        fold = self.by_name[ask.entities[0]].fold
        return _other(self, answer, fold, right[0], rng).name

    def chance(self, *key: object) -> random.Random:
        """A random source that depends on the world's seed and the key alone."""
        text = "|".join(str(part) for part in (self.params.seed, *key))
        return random.Random(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))


def spellings(value: Entity | int) -> tuple[str, ...]:
    """How a value is written."""
    return (str(value),) if isinstance(value, int) else value.names


def split_ask(world: World, ask: Ask) -> list[Ask]:
    """The single-hop parts, later ones about the true intermediate value; the ask itself when it has one hop."""
    if ask.kind == "compare":
        return [Ask("chain", ask.relations, (name,)) for name in ask.entities]
    values = world.walk(ask)
    subjects = [ask.entities[0], *(spellings(value)[0] for value in values[:-1])]
    return [Ask("chain", (relation,), (subject,)) for relation, subject in zip(ask.relations, subjects, strict=True)]


@lru_cache(maxsize=4)
def _generate(params: WorldParams) -> World:
    rng = random.Random(params.seed)
    taken: set[str] = set()
    kinds: tuple[AnswerType, ...] = (*DOMAINS, "person")
    by_type: dict[str, tuple[Entity, ...]] = {kind: _entities(kind, params.entities, rng, taken) for kind in kinds}
    by_name = {name: entity for group in by_type.values() for entity in group for name in entity.names}
    return World(params, by_type, by_name)


@lru_cache(maxsize=64)
def _fold_of(params: WorldParams, kind: str, fold: Fold) -> tuple[Entity, ...]:
    return tuple(entity for entity in _generate(params).by_type[kind] if entity.fold == fold)


def _fold(world: World, kind: str, fold: Fold) -> tuple[Entity, ...]:
    return _fold_of(world.params, kind, fold)


@lru_cache(maxsize=64)
def _places(params: WorldParams, kind: str, fold: Fold) -> dict[str, int]:
    return {entity.name: place for place, entity in enumerate(_fold_of(params, kind, fold))}


def _other(world: World, kind: str, fold: Fold, name: str, rng: random.Random) -> Entity:
    """An entity of a type and a fold that is not called so; as `choice` among all others draws it, without a list."""
    group, own = _fold(world, kind, fold), _places(world.params, kind, fold).get(name)
    if own is None:
        return rng.choice(group)
    place = rng.choice(range(len(group) - 1))
    return group[place + (place >= own)]


def _entities(kind: AnswerType, count: int, rng: random.Random, taken: set[str]) -> tuple[Entity, ...]:
    """Each rank goes to the fold that is furthest below its share, so that folds are alike in size and popularity."""
    sizes: Counter[Fold] = Counter()
    made = []
    for rank in range(count):
        alias = invent(rng, taken) if rng.random() < ALIASED else None
        fold = max(FOLDS, key=lambda item: item[1] * (rank + 1) - sizes[item[0]])[0]
        sizes[fold] += 1
        made.append(Entity(invent(rng, taken), kind, fold, rank, alias))
    return tuple(made)


def invent(rng: random.Random, taken: set[str]) -> str:
    """A new name of three different syllables, which does not begin like a word of the language; added to `taken`.

    Of four in a world of very many.
    """
    while True:
        name = "".join(rng.sample(SYLLABLES, 3 if len(taken) < CROWDED else 4))
        if name not in taken and not name.startswith(_STEMS):
            taken.add(name)
            return name


_STEMS = tuple(word for word in words() if len(word) > 2)
