"""Where a reply is found again: a digest of everything that it depends on, and of nothing else.

Prices, the candidate's name in prompts, its key and how patiently it is called are no part of it: a changed price is
another bill for the same words. Another model, endpoint, system message, instruction, sampling, world or expert is
another address, so that nothing stale is taken for an answer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stages.shared.files import sha256
from stages.shared.params import LocalPool, Params, SandboxPool
from stages.shared.pool import instruction
from stages.shared.pool.candidate import Candidate

SAMPLING = ("max_tokens", "temperature", "seed")
NO_MATTER = {"name", "price", "prompt_price", "priced", "seen", "summary", "key_env", "answers_as", "private"}
NO_MATTER |= {"http2", "timeout_s", "concurrency"}
"""Of a candidate: what its replies do not depend on."""
LATER = {"max_tokens", "parameters"}
"""Known to replies of candidates that set them: those of others were recorded before these were thought of."""


def fingerprints(params: Params, candidates: Sequence[Candidate]) -> dict[str, str]:
    """Candidate -> digest of who answers: the model and its endpoint, or what is served here in their place.

    A model served from a file is known by the file's content, a simulated expert by its skills, its world and the code
    that simulates it; the port that either got this time says nothing.
    """
    pool = params.pool
    own = _simulated(params, pool) if pool.kind == "sandbox" else _local(pool) if pool.kind == "local" else {}
    return {item.name: _digest([_known(item, served_here=bool(own)), own.get(item.name)]) for item in candidates}


def address(fingerprint: str, params: Params, query: str) -> str:
    """Of one candidate's reply to one query."""
    limits = params.pool.limits.model_dump(mode="json", include={*SAMPLING})
    return _digest([fingerprint, limits, instruction.candidate_message(query)])


def _known(candidate: Candidate, *, served_here: bool) -> dict[str, Any]:
    left_out = NO_MATTER | ({"base_url"} if served_here else set())
    known = {key: value for key, value in asdict(candidate).items() if key not in left_out}
    return {key: value for key, value in known.items() if value or key not in LATER}


def _simulated(params: Params, pool: SandboxPool) -> Mapping[str, Any]:
    sources = sorted((Path(instruction.__file__).parents[1] / "sandbox").glob("*.py"))
    code = [sha256(path) for path in sources]
    world = params.world.model_dump(mode="json")
    return {
        expert.name: [world, code, expert.model_dump(mode="json", exclude={"price", "prompt_price", "seen"})]
        for expert in pool.experts
    }


def _local(pool: LocalPool) -> Mapping[str, Any]:
    from stages.shared.pool.llamacpp import locate_gguf

    return {model.name: [sha256(locate_gguf(model)), pool.context] for model in pool.models}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
