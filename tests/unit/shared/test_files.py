"""Files that are read whole are read up to a limit, whatever their size claims to be."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stages.evaluate.diff.prices import read_prices
from stages.evaluate.tables.read import read_records_folder
from stages.publish.gates import load_policies
from stages.shared.artifacts import verify_manifest
from stages.shared.episode.roster import read_descriptors
from stages.shared.errors import ConfigurationError, DataError, IntegrityError
from stages.shared.files import END, read_end, read_json, read_lines, read_rows, read_text, read_yaml
from stages.shared.params import load_params


def test_a_file_is_read_up_to_its_limit_and_not_beyond(tmp_path: Path) -> None:
    path = tmp_path / "é.txt"
    path.write_text("é" * 8, encoding="utf-8")
    assert read_text(path, 16) == "é" * 8
    with pytest.raises(DataError, match="more than 15 bytes"):
        read_text(path, 15)


def test_a_folder_is_whole_or_absent_whoever_dies_or_races_while_it_is_replaced(tmp_path: Path) -> None:
    program = Path(__file__).with_name("replacing.py")
    environment = {**os.environ, "PYTHONPATH": str(program.parents[3])}
    done = subprocess.run(
        [sys.executable, program, tmp_path], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 8


def test_a_journal_is_read_line_by_line_without_what_a_crash_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    assert list(read_rows(path)) == []
    whole = json.dumps({"text": "é\u2028"}, ensure_ascii=False).encode()
    path.write_bytes(b'{"step": 1}\n' + whole + b"\n" + whole[:-5])
    assert list(read_rows(path)) == [{"step": 1}, {"text": "é\u2028"}]
    assert b"".join(read_lines(path)) == path.read_bytes()


@pytest.mark.parametrize("read", [read_json, lambda path: list(read_lines(path)), lambda path: list(read_rows(path))])
def test_state_and_lines_without_an_end_are_refused(tmp_path: Path, read: Callable[[Path], object]) -> None:
    (tmp_path / "state").symlink_to("/dev/zero")
    with pytest.raises(DataError, match=r"state has .*more than [\d,]+ bytes.*right"):
        read(tmp_path / "state")


@pytest.mark.parametrize("text", ["[" * 5000, "a: 2001-99-99", "a: [", "\x00"])
def test_yaml_that_cannot_be_read_is_named_whatever_the_parser_raises(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=r"(?s)params\.yaml is not readable YAML: .*; correct it"):
        load_params(tmp_path / "params.yaml")


def test_yaml_that_cannot_be_read_is_pointed_at_on_one_line(tmp_path: Path) -> None:
    (tmp_path / "gates.yaml").write_text("a: 1\nb: [{c: what ?, d: 1}]\n")
    with pytest.raises(ConfigurationError) as raised:
        read_yaml(tmp_path / "gates.yaml")
    said = "gates.yaml is not readable YAML: line 2, column 14: expected ',' or '}', but got '?'; correct it"
    assert str(raised.value).endswith(said)


def test_json_nested_without_an_end_is_no_json(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text('{"a": 1}\n' + "[" * 100_000)
    assert list(read_rows(path)) == [{"a": 1}]
    path.write_text("[" * 100_000)
    with pytest.raises(ValueError, match="nested too deeply"):
        read_json(path)


def test_of_a_log_the_end_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("first\n" + "x" * END + "\n\nlast words\n")
    lines = read_end(path)
    assert (lines[-1], "first" in lines, sum(map(len, lines)) <= END) == ("last words", False, True)


def test_records_of_any_size_are_not_read(tmp_path: Path) -> None:
    with (tmp_path / "train.json").open("wb") as handle:
        handle.truncate((1 << 32) + 1)
    with pytest.raises(ConfigurationError, match=r"train\.json: more than 4,294,967,296 bytes"):
        read_records_folder(tmp_path, 0)


READERS: list[tuple[str, Callable[[Path], object]]] = [
    ("params.yaml", lambda root: load_params(root / "params.yaml")),
    ("prices.yaml", lambda root: read_prices(root / "prices.yaml")),
    ("infra/gates.yaml", load_policies),
    ("manifest.json", verify_manifest),
    ("descriptors.json", lambda root: read_descriptors(root / "descriptors.json")),
]


@pytest.mark.parametrize(("name", "read"), READERS, ids=[name for name, _ in READERS])
def test_a_file_without_an_end_is_refused(tmp_path: Path, name: str, read: Callable[[Path], object]) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises((DataError, IntegrityError), match=r"more than [\d,]+ bytes"):
        read(tmp_path)


WHOLE = re.compile(r"\.read_text\(|\.read_bytes\(|json\.load\(")
"""Reads a file to its end, wherever that is."""


def test_no_other_module_reads_a_file_to_its_end_wherever_that_is() -> None:
    root = Path(__file__).resolve().parents[3]
    assert not [
        path.relative_to(root).as_posix()
        for top in ("flows", "stages")
        for path in (root / top).rglob("*.py")
        if WHOLE.search(path.read_text(encoding="utf-8"))
    ]
