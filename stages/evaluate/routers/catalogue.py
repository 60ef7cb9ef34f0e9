"""Every router that is fitted on records alone, by its name in `evaluate.methods`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from stages.evaluate.routers.acar import fit_acar
from stages.evaluate.routers.avengers import fit_avengers
from stages.evaluate.routers.bert import fit_bert
from stages.evaluate.routers.blender import fit_blender
from stages.evaluate.routers.cascading import fit_cascading
from stages.evaluate.routers.consistency import fit_consistency
from stages.evaluate.routers.correctness import fit_correctness
from stages.evaluate.routers.frugalgpt import fit_frugalgpt
from stages.evaluate.routers.graphrouter import fit_graphrouter
from stages.evaluate.routers.history import History
from stages.evaluate.routers.hybrid import fit_hybrid
from stages.evaluate.routers.irt import fit_irt
from stages.evaluate.routers.knn import fit_knn
from stages.evaluate.routers.llmrank import fit_llmrank
from stages.evaluate.routers.mlp import fit_mlp
from stages.evaluate.routers.protocol import FittedRouter
from stages.evaluate.routers.routellm import fit_routellm
from stages.evaluate.routers.routerdc import fit_routerdc
from stages.evaluate.routers.routoo import fit_routoo
from stages.shared.params import EvaluateParams, RecordsMethod

FITS: Mapping[RecordsMethod, Callable[[History, EvaluateParams], FittedRouter]] = {
    "knn": fit_knn,
    "mlp": fit_mlp,
    "bert": fit_bert,
    "routerdc": fit_routerdc,
    "graphrouter": fit_graphrouter,
    "routellm-mf": fit_routellm,
    "hybrid-llm": fit_hybrid,
    "irt-router": fit_irt,
    "correctness": fit_correctness,
    "llmrank": fit_llmrank,
    "routoo": fit_routoo,
    "avengers-pro": fit_avengers,
    "frugalgpt": fit_frugalgpt,
    "consistency-cascade": fit_consistency,
    "cascade-routing": fit_cascading,
    "acar": fit_acar,
    "llm-blender": fit_blender,
}
LOOK = frozenset({"frugalgpt", "consistency-cascade", "cascade-routing", "acar", "llm-blender"})
"""Those that look at replies before they ask on: scores alone are not enough for them."""
SLOW = frozenset({"bert"})
"""Those that tune an encoder, which takes minutes on a CPU: they take part where they are named."""
