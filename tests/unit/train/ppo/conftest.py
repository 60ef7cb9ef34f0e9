"""Descriptors, questions and parameters that the PPO tests share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.shared.params import Params, parse_params
from stages.shared.pool.candidate import Descriptor, TopicSkill
from stages.shared.questions import Question

PROFILES = Path(__file__).resolve().parents[4] / "infra" / "profiles"


@pytest.fixture(scope="session")
def profile() -> Callable[..., Params]:
    """A named profile, with settings of train.ppo replaced."""
    return read_profile


def read_profile(name: str, **ppo: Any) -> Params:
    raw = yaml.safe_load((PROFILES / f"{name}.yaml").read_text(encoding="utf-8"))
    raw["train"]["ppo"].update(ppo)
    return parse_params(raw, name)


@pytest.fixture
def params() -> Params:
    return read_profile("smoke")


@pytest.fixture
def descriptors() -> tuple[Descriptor, ...]:
    skill = {"stone": TopicSkill(0.9, 0.9, 20), "song": TopicSkill(0.2, 0.2, 20)}
    return tuple(Descriptor(name, 0.1 * (i + 1), 0.5, skill) for i, name in enumerate(("Arlix", "Bomon", "Cyqun")))


@pytest.fixture(scope="session")
def questions() -> list[Question]:
    single = [Question(f"what is the quarry of zuma {i} ?", ("a",), "nq", "train", "stone", 1) for i in range(12)]
    double = [
        Question(f"what is the moss of the quarry of {i} ?", ("b",), "hotpotqa", "train", "", 2) for i in range(6)
    ]
    return single + double
