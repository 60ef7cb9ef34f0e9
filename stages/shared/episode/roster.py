"""Which candidates one episode may call, under which names and in which order."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from stages.shared.episode.types import Roster, RosterEntry
from stages.shared.errors import ConfigurationError, DataError
from stages.shared.files import read_text, write_json
from stages.shared.params import RosterParams
from stages.shared.pool.candidate import Descriptor

_LONGEST = 1 << 24
"""Bytes of a file of descriptors."""
_DESCRIPTORS = TypeAdapter(tuple[Descriptor, ...])


def make_roster(descriptors: Sequence[Descriptor]) -> Roster:
    """Every candidate under its own name, in the given order. Raises ConfigurationError on none, or two of one name."""
    return _roster(descriptors, [descriptor.name for descriptor in descriptors])


def draw_roster(
    descriptors: Sequence[Descriptor], rng: random.Random, params: RosterParams, names: Sequence[str] = ()
) -> Roster:
    """A roster drawn for one training question: a subset, shuffled, renamed from `names`, each as `params` says.

    Raises ConfigurationError when there are fewer candidates than `smallest`, or fewer names than candidates.
    """
    chosen = _subset(descriptors, rng, params.smallest)
    if params.shuffle:
        rng.shuffle(chosen)
    if rng.random() >= params.rename:
        return make_roster(chosen)
    if len(names) < len(chosen):
        raise ConfigurationError(
            f"train.roster.rename needs {len(chosen)} names, found {len(names)}; give more, or set it to 0"
        )
    return _roster(chosen, rng.sample(list(names), len(chosen)))


def rename(roster: Roster, rng: random.Random, names: Sequence[str]) -> Roster:
    """The same candidates in the same order under other names, drawn from `names`, which holds at least as many."""
    shown = rng.sample(list(names), len(roster.entries))
    return Roster(tuple(replace(entry, shown=name) for entry, name in zip(roster.entries, shown, strict=True)))


def write_descriptors(path: Path, descriptors: Sequence[Descriptor]) -> None:
    """Write the measured descriptors as a JSON list, atomically."""
    write_json(path, [asdict(descriptor) for descriptor in descriptors])


def read_descriptors(path: Path) -> tuple[Descriptor, ...]:
    """Read what `write_descriptors` wrote. Raises DataError when it is missing or says something else."""
    try:
        return _DESCRIPTORS.validate_json(read_text(path, _LONGEST))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; run the profile stage first (`pointsman run`)") from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no list of descriptors: {error}; run the profile stage again") from error


def _subset(descriptors: Sequence[Descriptor], rng: random.Random, smallest: int | None) -> list[Descriptor]:
    if smallest is None:
        return list(descriptors)
    if smallest > len(descriptors):
        raise ConfigurationError(
            f"train.roster.smallest is {smallest}, of {len(descriptors)} candidates; lower it, or set it to null"
        )
    kept = set(rng.sample(range(len(descriptors)), rng.randint(smallest, len(descriptors))))
    return [descriptor for index, descriptor in enumerate(descriptors) if index in kept]


def _roster(descriptors: Sequence[Descriptor], shown: Sequence[str]) -> Roster:
    if not descriptors:
        raise ConfigurationError("the pool has no candidate; add one under `pool` in params.yaml")
    twice = sorted({name for name in shown if list(shown).count(name) > 1})
    if twice:
        raise ConfigurationError(f"two candidates share the name {', '.join(twice)}; give each its own")
    pairs = zip(shown, descriptors, strict=True)
    return Roster(tuple(RosterEntry(name, descriptor.name, descriptor) for name, descriptor in pairs))
