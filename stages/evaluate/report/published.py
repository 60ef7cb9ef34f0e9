"""What Router-R1 published (arXiv 2506.09033), with Qwen2.5-3B-Instruct as the base model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stages.evaluate.metrics import AVERAGE, Methods

ORDER = ("nq", "triviaqa", "popqa", "hotpotqa", "2wikimultihopqa", "musique", "bamboogle", AVERAGE)
PAPER: Mapping[str, Sequence[float]] = {
    "direct": (.092, .260, .122, .140, .266, .026, .040, .135),
    "cot": (.126, .358, .160, .168, .208, .046, .224, .184),
    "sft": (.212, .400, .160, .198, .256, .052, .112, .199),
    "rag": (.298, .540, .366, .216, .146, .078, .224, .267),
    "search-r1": (.328, .510, .324, .236, .278, .090, .272, .291),
    "prompt-llm": (.300, .580, .340, .268, .262, .108, .448, .329),
    "largest-llm": (.296, .578, .354, .278, .274, .104, .480, .338),
    "knn": (.262, .528, .222, .224, .196, .066, .360, .265),
    "mlp": (.252, .460, .222, .198, .210, .072, .360, .253),
    "bert": (.230, .516, .192, .216, .206, .058, .312, .247),
    "routerdc": (.278, .592, .282, .244, .218, .080, .504, .314),
    "graphrouter": (.276, .586, .280, .234, .180, .076, .448, .297),
    "prompt-llm-multi": (.258, .500, .256, .206, .248, .078, .472, .288),
    "knn-multi": (.236, .478, .232, .154, .234, .072, .384, .256),
    "router": (.388, .706, .384, .352, .434, .138, .512, .416),
}  # fmt: skip
"""Exact match (table 1), in the order of `ORDER`; of our names, those that the table has too."""
PRICED = ("nq", "popqa", "hotpotqa", "2wikimultihopqa")
COSTS: Mapping[str, Sequence[tuple[float, float]]] = {
    "router": ((.388, 150.6), (.384, 98.3), (.352, 138.6), (.434, 150.8)),
    "fixed:Qwen2.5-7B-Instruct": ((.138, 24.2), (.130, 18.6), (.152, 24.9), (.166, 28.7)),
    "fixed:LLaMA-3.1-70B-Instruct": ((.280, 153.3), (.342, 76.3), (.260, 124.6), (.270, 119.8)),
    "fixed:LLaMA-3.1-8B-Instruct": ((.242, 29.5), (.208, 14.3), (.198, 24.1), (.130, 21.3)),
    "fixed:Mistral-7B-Instruct": ((.192, 20.2), (.182, 16.2), (.202, 19.1), (.198, 18.3)),
    "fixed:Mixtral-8x22B-Instruct": ((.296, 20.2), (.354, 17.6), (.278, 20.1), (.274, 20.1)),
    "fixed:Gemma-2-27B-Instruct": ((.282, 42.7), (.290, 22.0), (.244, 37.8), (.190, 44.6)),
}  # fmt: skip
"""(exact match, millionths of a dollar a question) on the sets of `PRICED`; the router with a cost coefficient of 0."""
SETTING = "paper-qwen"
"""The profile that is to repeat it."""


@dataclass(frozen=True)
class Pair:
    """A method's exact match as published, and as measured here."""

    method: str
    paper: Mapping[str, float]
    ours: Mapping[str, float]


def beside(methods: Methods) -> list[Pair]:
    """Every method that both have, on the sets that were measured; the paper's average is over all seven."""
    sets = [name for name in ORDER if name in methods["router"]]
    return [
        Pair(
            method,
            {name: value for name, value in zip(ORDER, values, strict=True) if name in sets},
            {name: methods[method][name].em for name in sets},
        )
        for method, values in PAPER.items()
        if method in methods
    ]


@dataclass(frozen=True)
class PricedPair:
    """A method's exact match and cost as published, and as measured here, by set."""

    method: str
    paper: Mapping[str, tuple[float, float]]
    ours: Mapping[str, tuple[float, float]]


def beside_costs(methods: Methods) -> list[PricedPair]:
    """Every method whose cost both have, on the sets that were measured."""
    sets = [name for name in PRICED if name in methods["router"]]
    return [
        PricedPair(
            method,
            {name: value for name, value in zip(PRICED, values, strict=True) if name in sets},
            {name: (methods[method][name].em, methods[method][name].cost) for name in sets},
        )
        for method, values in COSTS.items()
        if sets and method in methods
    ]


def differs(profile: str, synthetic: bool) -> str:
    """Why the figures are of another setting; "" for the profile that is to repeat the paper's."""
    if synthetic:
        return "generated questions and simulated candidates"
    return "" if profile == SETTING else f"the profile {profile}: other questions, candidates or policy"
