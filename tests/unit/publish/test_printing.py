"""What a release manager reads."""

from __future__ import annotations

from typing import Any

import pytest

from stages.publish.channels import Event, Position
from stages.publish.printing import Printer
from stages.publish.promotion import Examination

RELEASE: dict[str, Any] = {
    "digest": "a" * 64, "profile": "smoke", "synthetic": True, "signatures": [], "channels": [], "built_from": [],
    "router": {"em": 0.5, "em_high": 0.625, "em_low": 0.375, "calls": 2, "n": 28}, "files": {},
}  # fmt: skip


def test_a_number_is_shown_once_with_its_interval(capsys: pytest.CaptureFixture[str]) -> None:
    Printer(as_json=False).release(RELEASE)
    assert "router, average: em 0.5 (0.375 to 0.625), calls 2, n 28\n" in capsys.readouterr().out


def test_what_else_to_know_stands_with_the_evidence(capsys: pytest.CaptureFixture[str]) -> None:
    examination = Examination("a" * 64, Position("prodction", None, None), (), "Did you mean production?")
    Printer(as_json=False).examination(examination)
    assert "Did you mean production?" in capsys.readouterr().out


def test_a_rollback_that_is_only_tried_says_from_what_to_what(capsys: pytest.CaptureFixture[str]) -> None:
    event = Event(
        channel="production", sequence=2, kind="promotion", digest="b" * 64, previous="a" * 64, actor="ada",
        reason="better", time="2026-01-02T03:04:05+00:00", parent="0" * 64, override=None, evidence=(), nonce="1",
    )  # fmt: skip
    Printer(as_json=False).would_go_back(Position("production", event, "1"), "a" * 64)
    assert capsys.readouterr().out == (
        f"production would serve {'a' * 16}, and serves {'b' * 16}; nothing was changed\n"
    )
