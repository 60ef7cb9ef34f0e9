"""Sampled episodes as people read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stages.train.ppo.episodes import read_episodes, write_episodes

REWARD = {"total": 0.75, "format": 0.0, "outcome": 1.0, "cost_term": 0.5, "em": 1.0, "f1": 1.0, "cost": 12.5}


def sample(step: int = 3, **changes: Any) -> dict[str, Any]:
    call = {"shown": "Zed", "name": "Arlix", "query": "q", "reply": "bade", "outcome": "answered", "cost": 12.5}
    return {
        "step": step, "question": "who <b>is</b> it ?", "answers": ["bade", "Bade & co"],
        "turns": [["<search> Zed : q </search>", "<information>bade</information>"], ["<answer>bade</answer>", ""]],
        "answer": "bade", "faults": [], "ending": "answered", "calls": [call], "reward": REWARD, **changes,
    }  # fmt: skip


def test_text_and_page_tell_the_whole_episode(tmp_path: Path) -> None:
    write_episodes(tmp_path, [sample(), sample(4, reward={**REWARD, "total": None}, faults=["no think block"])])
    text, page = ((tmp_path / name).read_text() for name in ("episodes.txt", "episodes.html"))
    assert "<search> Zed : q </search><information>bade</information><answer>bade</answer>" in text
    assert "--- step 3: reward 0.75 (format 0, outcome 1.00, cost term 0.50), EM 1, cost 12.5, 1 calls" in text
    assert "no reward: a candidate failed" in text
    assert "fault: no think block" in text
    assert "Step 4" in page
    assert "Zed is Arlix" in " ".join(page.split())


def test_what_an_episode_says_cannot_become_part_of_the_page(tmp_path: Path) -> None:
    write_episodes(tmp_path, [sample(turns=[["<script>alert(1)</script>", ""]])])
    page = (tmp_path / "episodes.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "<b>is</b>" not in page
    assert "http" not in page


def test_they_survive_the_way_through_the_run_folder_and_a_torn_line_does_not(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "episodes.jsonl").write_text(json.dumps(sample()) + "\n" + '{"step": 4, "te')
    assert read_episodes(run) == [sample()]
    write_episodes(tmp_path, read_episodes(run))
    assert read_episodes(tmp_path) == [sample()]
    assert read_episodes(tmp_path / "nowhere") == []
