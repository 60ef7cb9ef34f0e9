from __future__ import annotations

from typing import Any

import pytest

from stages.shared.params import Params, parse_params
from stages.shared.sandbox.lexicon import DOMAINS


def expert(name: str, best: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "skill": {**dict.fromkeys(DOMAINS, 0.1), best: 0.9}, "price": 0.5, "latency_s": 0.4, **more}


@pytest.fixture
def make_params():
    """Parameters of a small sandbox; keyword arguments replace whole sections."""

    def make(**sections: Any) -> Params:
        experts = [expert("Arlix", "stone"), expert("Bomon", "town", verbosity="full", failure_rate=0.2),
                   expert("Guvex", "song", seen=False)]  # fmt: skip
        raw = {
            "profile_name": "test",
            "world": {"entities": 60},
            "ingest": {
                "source": {"kind": "sandbox"},
                "sizes": {"train": 1, "profiling": 12, "validation": 1, "test": 1},
            },
            "pool": {"kind": "sandbox", "experts": experts, "time_scale": 0.0},
            "profile": {"questions": 24},
            "episode": {},
            "train": {"policy": {"kind": "tiny"}, "ppo": {"steps": 1}},
            **sections,
        }
        return parse_params(raw, "test")

    return make
