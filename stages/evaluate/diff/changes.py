"""What was set otherwise in two runs: parameters, the pool and its prices, the images, the data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from stages.evaluate.diff.run import COUNTS, HASH, Run

Part = Literal["data", "price", "pool", "image", "parameter"]
ORDER: tuple[Part, ...] = get_args(Part)
PRICES = ("price", "prompt_price", "router_price", "router_prompt_price")
PREFIXES: dict[str, Part] = {"pool.": "pool", "stage.images.": "image"}
ABSENT = "(absent)"


@dataclass(frozen=True)
class Change:
    """One thing that differs; `before` and `after` are plain values, ABSENT for what is not there."""

    part: Part
    key: str
    before: Any
    after: Any


def changes(before: Run, after: Run) -> list[Change]:
    """Everything that differs: data first, then prices, the pool, images, other parameters."""
    found = _data(before, after)
    old, new = dict(flatten(before.params)), dict(flatten(after.params))
    for key in [*old, *(key for key in new if key not in old)]:
        if old.get(key, ABSENT) != new.get(key, ABSENT):
            found.append(Change(part_of(key, old, new), key, old.get(key, ABSENT), new.get(key, ABSENT)))
    return sorted(found, key=lambda change: ORDER.index(change.part))


def _data(before: Run, after: Run) -> list[Change]:
    """By the surest kind of knowledge that both runs kept; nothing is claimed without one."""
    kind = next((kind for kind in (HASH, COUNTS) if kind in before.data and kind in after.data), None)
    if kind is None or before.data[kind] == after.data[kind]:
        return []
    return [Change("data", f"question sets, by {kind}", before.data[kind], after.data[kind])]


def part_of(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Part:
    """A price counts as changed where both runs have one: a candidate that came or went is a change of the pool."""
    if key.rsplit(".", 1)[-1] in PRICES and key in old and key in new:
        return "price"
    return next((part for prefix, part in PREFIXES.items() if key.startswith(prefix)), "parameter")


def flatten(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key -> plain value; entries of a list that have a name go by it, so that their order says nothing."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from flatten(inner, f"{place}.{name}" if place else str(name))
    elif isinstance(value, list) and value and all(isinstance(item, Mapping) and "name" in item for item in value):
        for item in value:
            rest = {name: inner for name, inner in item.items() if name != "name"}
            yield from flatten(rest, f"{place}[{item['name']}]")
    else:
        yield place, value
