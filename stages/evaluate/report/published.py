"""The exact match that Router-R1 published (arXiv 2506.09033, table 1, Qwen2.5-3B-Instruct as the base model)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stages.evaluate.metrics import AVERAGE, Methods

ORDER = ("nq", "triviaqa", "popqa", "hotpotqa", "2wikimultihopqa", "musique", "bamboogle", AVERAGE)
PAPER: Mapping[str, Sequence[float]] = {
    "direct": (.092, .260, .122, .140, .266, .026, .040, .135),
    "prompt-llm": (.300, .580, .340, .268, .262, .108, .448, .329),
    "largest-llm": (.296, .578, .354, .278, .274, .104, .480, .338),
    "knn": (.262, .528, .222, .224, .196, .066, .360, .265),
    "mlp": (.252, .460, .222, .198, .210, .072, .360, .253),
    "routerdc": (.278, .592, .282, .244, .218, .080, .504, .314),
    "graphrouter": (.276, .586, .280, .234, .180, .076, .448, .297),
    "router": (.388, .706, .384, .352, .434, .138, .512, .416),
}  # fmt: skip
"""In the order of `ORDER`; of our names, those that the table has too."""
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


def differs(profile: str, synthetic: bool) -> str:
    """Why the figures are of another setting; "" for the profile that is to repeat the paper's."""
    if synthetic:
        return "generated questions and simulated candidates"
    return "" if profile == SETTING else f"the profile {profile}: other questions, candidates or policy"
