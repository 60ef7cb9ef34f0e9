"""What candidates' replies depend on beside the question: replies of one setting are good in no other."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from stages.shared.files import read_bytes
from stages.shared.params import PoolParams, WorldParams
from stages.shared.pool import instruction


def setting(pool: PoolParams, world: WorldParams) -> str:
    """A digest of world, pool, sampling and how candidates are instructed: 16 hexadecimal digits.

    Limits on time, money and concurrency are left out, so that an interrupted run may go on with others.
    """
    limits = pool.limits
    without: dict[str, Any] = {"time_scale": True, "limits": True}
    if pool.kind == "api":
        without["candidates"] = {"__all__": {"requests_per_minute", "tokens_per_minute"}}
    depends = {
        "world": world.model_dump(mode="json"),
        "pool": pool.model_dump(mode="json", exclude=without),
        "sampling": [limits.max_tokens, limits.temperature, limits.seed],
        "code": [hashlib.sha256(read_bytes(path)).hexdigest() for path in _sources(pool)],
    }
    return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:16]


def _sources(pool: PoolParams) -> list[Path]:
    """The code that a reply depends on: the instruction, and in the sandbox the experts themselves."""
    here = Path(instruction.__file__)
    experts = sorted((here.parents[1] / "sandbox").glob("*.py")) if pool.kind == "sandbox" else []
    return [here, *experts]
