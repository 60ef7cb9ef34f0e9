"""Figures for papers: drawn from the metrics file alone, as SVG and PNG."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from stages.evaluate.figures import figures, main, read_shown
from stages.shared.files import write_json

PNG = b"\x89PNG\r\n\x1a\n"
NAMES = {"ranking", "frontier", "shares", "calls", "calibration"}


@pytest.fixture
def run(tmp_path: Path, sample: Any) -> Path:
    write_json(tmp_path / "metrics" / "evaluate.json", sample.evaluation.to_json())
    return tmp_path


def test_every_figure_is_written_as_svg_and_as_png(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--run", str(run), str(run / "out")]) == 0
    assert sorted(capsys.readouterr().out.split()) == sorted(map(str, (run / "out").iterdir()))
    assert {path.name for path in (run / "out").iterdir()} == {f"{n}.{kind}" for n in NAMES for kind in ("svg", "png")}
    for name in NAMES:
        assert ElementTree.parse(run / "out" / f"{name}.svg").getroot().tag.endswith("svg")
        assert (run / "out" / f"{name}.png").read_bytes().startswith(PNG)
    assert "synthetic" in (run / "out" / "frontier.svg").read_text()


def test_they_show_what_the_metrics_hold(run: Path, sample: Any) -> None:
    found = figures(read_shown(run / "metrics" / "evaluate.json"))
    points = {row["method"]: (row["cost"], row["em"]) for row in found["ranking"]["data"]["values"]}
    cell = sample.evaluation.methods["router"]["average"]
    assert points["Router"] == (cell.cost, 100 * cell.em)
    assert len(points) == len(sample.evaluation.methods)
    shares = found["shares"]["data"]["values"]
    assert sum(row["share"] for row in shares if row["group"] == "nq") == pytest.approx(100)
    assert {row["stated"] for row in found["calibration"]["data"]["values"]} == {25.0, 95.0}


def test_an_older_evaluation_has_no_calibration_and_the_other_figures(run: Path) -> None:
    path = run / "metrics" / "evaluate.json"
    older = {key: value for key, value in json.loads(path.read_text()).items() if key != "calibration"}
    write_json(path, older)
    assert set(figures(read_shown(path))) == NAMES - {"calibration"}


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [(None, 2, "no such file; `pointsman run` makes it"), ("{", 1, "is no evaluation"), ("[]", 1, "is no evaluation"),
     ('{"methods": {}, "router": {}}', 1, "has no 'synthetic'")],
)  # fmt: skip
def test_what_is_no_evaluation_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, code: int, told: str
) -> None:
    (tmp_path / "metrics").mkdir()
    if text is not None:
        (tmp_path / "metrics" / "evaluate.json").write_text(text)
    assert main(["--run", str(tmp_path), str(tmp_path / "out")]) == code
    assert told in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_said_and_no_traceback(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["--run", str(run), str(tmp_path / "file" / "out")]) == 2
    assert "out cannot be written: Not a directory; choose another path" in capsys.readouterr().err
