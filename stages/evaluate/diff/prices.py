"""A finished run at other prices: what the same calls would have cost, without asking or playing anything again.

Nobody chooses anew: a router that reads prices might have called others, and an oracle would have.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stages.evaluate.diff.run import Episode, Episodes, Run
from stages.shared.errors import ConfigurationError
from stages.shared.files import read_yaml

Prices = Mapping[str, float]
"""Candidate -> USD per 1M completion tokens."""


@dataclass(frozen=True)
class Repriced:
    """A run, and the methods that are not in it for want of token counts."""

    run: Run
    left_out: tuple[str, ...]


def read_prices(path: Path) -> dict[str, float]:
    """A table `NAME: PRICE` or `NAME: {price: PRICE}`, or a whole params.yaml. Raises ConfigurationError."""
    try:
        found = read_yaml(path)
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{path}: no such file; --prices takes a table NAME: PRICE, or a params.yaml"
        ) from error
    if isinstance(found, dict) and isinstance(found.get("pool"), dict):
        return prices_of(found)
    if not isinstance(found, dict) or not found:
        raise ConfigurationError(f"{path} holds no prices; write NAME: PRICE, USD per 1M completion tokens")
    return {str(name): _price(path, str(name), value) for name, value in found.items()}


def prices_of(params: Mapping[str, Any]) -> dict[str, float]:
    """Of the candidates of params.yaml."""
    return {str(item["name"]): float(item["price"]) for item in _items(params)}


def reprice(run: Run, prices: Prices) -> Repriced:
    """The run at these prices; a method that has an episode of which the tokens are not known is left out.

    An older run kept no token counts: there an episode whose calls went to one candidate is worth its cost times the
    ratio of that candidate's prices. Raises ConfigurationError for a called candidate without a price.
    """
    called = {name for group in run.methods.values() for item in group.values() for name in item.called}
    missing = sorted(called - set(prices))
    if missing:
        near = difflib.get_close_matches(missing[0], prices, n=1)
        hint = f"; is {near[0]} meant for it?" if near else ""
        raise ConfigurationError(f"--prices has no price of {', '.join(missing)}, called in {run.name}{hint}")
    before = prices_of(run.params)
    methods = {name: _episodes(group, before, prices) for name, group in run.methods.items()}
    kept = {name: group for name, group in methods.items() if group is not None}
    left_out = tuple(name for name, group in methods.items() if group is None)
    return Repriced(replace(run, methods=kept, params=_at(run.params, prices)), left_out)


def _episodes(group: Episodes, before: Prices, prices: Prices) -> Episodes | None:
    found = {key: _episode(item, before, prices) for key, item in group.items()}
    whole = {key: item for key, item in found.items() if item is not None}
    return whole if len(whole) == len(group) else None


def _episode(item: Episode, before: Prices, prices: Prices) -> Episode | None:
    if len(item.tokens) == len(item.called):
        paid = sum(count * prices[name] for name, count in zip(item.called, item.tokens, strict=True))
        return replace(item, cost=paid)
    names = set(item.called)
    if len(names) == 1 and (name := names.pop()) in before:
        return replace(item, cost=item.cost * prices[name] / before[name])
    return None


def _at(params: Mapping[str, Any], prices: Prices) -> Mapping[str, Any]:
    changed = deepcopy(dict(params))
    for item in _items(changed):
        item["price"] = prices.get(str(item["name"]), item["price"])
    return changed


def _items(params: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for value in params.get("pool", {}).values():
        if isinstance(value, list):
            yield from (item for item in value if isinstance(item, dict) and {"name", "price"} <= item.keys())


def _price(path: Path, name: str, value: Any) -> float:
    given = value.get("price") if isinstance(value, dict) else value
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given) or given < 0:
        raise ConfigurationError(f"{path}: the price of {name} is {given!r}; give USD per 1M completion tokens")
    return float(given)
