"""Why a stage would run: what DVC says has changed, in words, parameter by parameter."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any


def reasons_of(changes: Sequence[Any], locked: Mapping[str, Any] | None, params: Mapping[str, Any]) -> tuple[str, ...]:
    """One a change, none for a stage that is current: `changes` of `dvc status`, `locked` of dvc.lock."""
    if not changes:
        return ()
    if locked is None:
        return ("it has not run yet",)
    reasons: list[str] = []
    for change in changes:
        if isinstance(change, str):
            reasons.append(change)
            continue
        for path, how in change.get("changed deps", {}).items():
            reasons += _params_changed(locked, params, how) if isinstance(how, dict) else [f"{path} is {how}"]
        reasons += [f"its output {path} is {how}" for path, how in change.get("changed outs", {}).items()]
    return tuple(reasons)


def _params_changed(locked: Mapping[str, Any], params: Mapping[str, Any], how: Mapping[str, str]) -> list[str]:
    before = locked.get("params", {}).get("params.yaml", {})
    return [
        f"{key}: {_short(old)} -> {_short(new)}"
        for section in how
        for key, old, new in _differences(section, before.get(section), _at(params, section))
    ]


def _at(params: Mapping[str, Any], key: str) -> Any:
    """The value of `a.b.c`, None where there is none; dvc.lock keeps it under that one key."""
    found: Any = params
    for name in key.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _differences(key: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in {**old, **new}:
            yield from _differences(f"{key}.{name}", old.get(name), new.get(name))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _differences(f"{key}.{index}", one, other)
    elif (before := _as_meant(old, new)) != new:
        yield key, before, new


def _as_meant(old: Any, new: Any) -> Any:
    """A number that DVC wrote without a point, as in `3e-05`, is text to YAML."""
    if isinstance(old, str) and isinstance(new, (int, float)):
        with suppress(ValueError):
            return float(old)
    return old


def _short(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."
