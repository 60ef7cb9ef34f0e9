"""Which candidates are added or taken away, and how much is known of those that are new."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from stages.shared.errors import ConfigurationError
from stages.shared.pool.candidate import Descriptor, TopicSkill

Kind = Literal["base", "added", "removed"]
Knowledge = Literal["descriptor", "few-shot", "profile"]
KNOWLEDGE: tuple[Knowledge, ...] = ("descriptor", "few-shot", "profile")
"""Of a new candidate: its price, latency and summary; the same and a few answers; everything that the profile has."""
MOST = 12
"""Choices of who leaves or comes, of each kind; more are drawn from."""


@dataclass(frozen=True)
class Case:
    """One set of candidates that the methods have to do with, none of them trained for it."""

    kind: Kind
    descriptors: tuple[Descriptor, ...]
    """As the prompt shows them."""
    new: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    knowledge: Knowledge | None = None
    """Of the new ones; None where there are none."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of all its candidates."""
        return tuple(item.name for item in self.descriptors)

    def __str__(self) -> str:
        """For example `with Guvex (few-shot)`."""
        if self.kind == "added":
            return f"with {', '.join(self.new)} ({self.knowledge})"
        return f"without {', '.join(self.removed)}" if self.removed else "the candidates of training"


def plan_cases(
    descriptors: Sequence[Descriptor], few: Mapping[str, Mapping[str, TopicSkill]], count: int, seed: int
) -> list[Case]:
    """The candidates of training; these with every choice of `count` unseen ones, and with all of them, at each level
    of knowledge; and without every choice of `count` of them.

    `few`: unseen candidate -> topic -> skill by few-shot records. Raises ConfigurationError when `count` leaves nobody.
    """
    seen, unseen = ([item for item in descriptors if item.seen == side] for side in (True, False))
    if not 0 < count < len(seen):
        raise ConfigurationError(
            f"--leave-out {count} of {len(seen)} candidates leaves nothing to compare; give 1 to {len(seen) - 1}"
        )
    rng = random.Random(seed)
    groups = [*(choices(unseen, count, rng) if count < len(unseen) else []), *([tuple(unseen)] if unseen else [])]
    added = [_added(seen, group, knowledge, few) for group in groups for knowledge in KNOWLEDGE]
    removed = [_removed(seen, group) for group in choices(seen, count, rng)]
    return [Case("base", tuple(seen)), *added, *removed]


def choices(items: Sequence[Descriptor], count: int, rng: random.Random) -> list[tuple[Descriptor, ...]]:
    """Every choice of so many, in order; `MOST` of them, drawn, where there are more."""
    found = list(itertools.combinations(items, count))
    return found if len(found) <= MOST else sorted(rng.sample(found, MOST), key=found.index)


def _added(
    seen: Sequence[Descriptor], group: Sequence[Descriptor], knowledge: Knowledge,
    few: Mapping[str, Mapping[str, TopicSkill]],
) -> Case:  # fmt: skip
    def shown(item: Descriptor) -> Descriptor:
        """What is known of a new candidate."""
        skill = {"descriptor": {}, "few-shot": few.get(item.name, {}), "profile": item.skill}[knowledge]
        return replace(item, skill=skill)

    names = tuple(item.name for item in group)
    return Case("added", (*seen, *map(shown, group)), new=names, knowledge=knowledge)


def _removed(seen: Sequence[Descriptor], group: Sequence[Descriptor]) -> Case:
    left = tuple(item for item in seen if item not in group)
    return Case("removed", left, removed=tuple(item.name for item in group))
