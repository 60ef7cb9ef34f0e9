"""Every method that a policy has to play, by its name in `evaluate.methods`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from stages.evaluate.routers.cot import set_up_cot
from stages.evaluate.routers.ground import Ground, Play
from stages.evaluate.routers.multi import set_up_knn_multi, set_up_prompt_llm_multi
from stages.evaluate.routers.rag import set_up_rag
from stages.evaluate.routers.searchr1 import set_up_search_r1
from stages.evaluate.routers.sft import set_up_sft
from stages.shared.params import EvaluateParams
from stages.shared.params.evaluate import PlayedMethod

PLAYS: Mapping[PlayedMethod, Callable[[Ground], Play]] = {
    "prompt-llm-multi": set_up_prompt_llm_multi,
    "knn-multi": set_up_knn_multi,
    "cot": set_up_cot,
    "sft": set_up_sft,
    "rag": set_up_rag,
    "search-r1": set_up_search_r1,
}
ALONE: frozenset[PlayedMethod] = frozenset({"cot", "sft", "rag", "search-r1"})
"""Those that call no candidate: they are the same with unseen ones, and are played once."""


def named(params: EvaluateParams, widest: bool) -> tuple[PlayedMethod, ...]:
    """Methods of `evaluate.methods` that are played; on the first line all, on a wider one those that call."""
    return tuple(name for name in PLAYS if name in params.methods and not (widest and name in ALONE))
