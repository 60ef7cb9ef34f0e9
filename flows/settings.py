"""Parameters set for one run: `KEY=VALUE` as text, written into a params.yaml whose other lines stay as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from stages.shared.errors import ConfigurationError
from stages.shared.files import read_text, write_text
from stages.shared.params import parse_params


def parse_settings(given: Sequence[str]) -> dict[str, Any]:
    """`ingest.seed=8` as {"ingest.seed": 8}: values are YAML. Raises ConfigurationError for what sets nothing."""
    found: dict[str, Any] = {}
    for text in given:
        key, sign, value = text.partition("=")
        try:
            found[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigurationError(f"{text!r}: the value is not readable YAML: {error}") from error
        if not (key.strip() and sign):
            raise ConfigurationError(f"{text!r} sets nothing; write it as ingest.seed=8")
    return found


def changed(text: str, settings: Mapping[str, Any], where: str) -> str:
    """A params.yaml's text with these parameters set, comments and all. Raises ConfigurationError for a wrong one."""
    expected = yaml.safe_load(text)
    if not isinstance(expected, dict):
        raise ConfigurationError(f"{where} must hold a mapping of sections, found {type(expected).__name__}")
    for key, value in settings.items():
        _check(key, value)
        set_value(expected, key, value)
        text = _replaced(text, key.split("."), value)
    said = ", ".join(f"{key}={value}" for key, value in settings.items())
    parse_params(expected, f"{where} with {said}" if said else where)
    if yaml.safe_load(text) != expected:
        raise ConfigurationError(f"{where}: {said} cannot be written into its text; set it there by hand and commit it")
    return text


def write_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Set parameters in a params.yaml. Raises ConfigurationError before anything is written."""
    write_text(path, changed(read_text(path), settings, path.name))


def set_value(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set `a.b.0.c` in nested mappings and lists. Raises ConfigurationError where the way leads through a value."""
    *parents, last = key.split(".")
    place: Any = tree
    for parent in parents:
        place = _child(place, parent, key)
    if isinstance(place, list):
        _child(place, last, key)
        place[int(last)] = value
    elif isinstance(place, dict):
        place[last] = value
    else:
        raise ConfigurationError(f"{key} is no parameter: {parents[-1]} holds a single value")


def _child(place: Any, name: str, key: str) -> Any:
    if isinstance(place, list) and name.isdecimal() and int(name) < len(place):
        return place[int(name)]
    if isinstance(place, dict):
        return place.setdefault(name, {})
    raise ConfigurationError(f"{key} is no parameter: there is no {name} where it leads")


def _check(key: str, value: Any) -> None:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{key}={value}: {error}; a text is to be quoted") from error


def _replaced(text: str, path: Sequence[str], value: Any) -> str:
    """The text with one value exchanged; one that is not there yet is put before the first of its mapping."""
    node: Any = yaml.compose(text)
    for depth, name in enumerate(path):
        found = _member(node, name)
        if found is None:
            return _inserted(text, node, name, _nested(path[depth + 1 :], value))
        node = found
    start, end = node.start_mark.index, _end(node, text)
    gap = " " if start == end else ""
    return text[:start] + gap + _flow(value) + text[end:]


def _member(node: yaml.CollectionNode, name: str) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return node.value[int(name)]
    return next((child for key, child in node.value if key.value == name), None)


def _inserted(text: str, node: yaml.CollectionNode, name: str, value: Any) -> str:
    start = node.start_mark
    if not node.value:
        return text[: start.index] + _flow({name: value}) + text[_end(node, text) :]
    first = node.value[0][0].start_mark
    tail = ", " if node.flow_style else "\n" + " " * first.column
    return f"{text[: first.index]}{name}: {_flow(value)}{tail}{text[first.index :]}"


def _nested(path: Sequence[str], value: Any) -> Any:
    for name in reversed(path):
        value = {name: value}
    return value


def _end(node: yaml.Node, text: str) -> int:
    """Where a node's text ends: a block's own mark stands before the next key, behind comments and blank lines."""
    if not isinstance(node, yaml.CollectionNode) or node.flow_style or not node.value:
        return max(node.start_mark.index, len(text[: node.end_mark.index].rstrip()))
    last = node.value[-1]
    return _end(last[1] if isinstance(last, tuple) else last, text)


def _flow(value: Any) -> str:
    dumped = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), sort_keys=False, allow_unicode=True)
    return dumped.removesuffix("...\n").rstrip("\n")
