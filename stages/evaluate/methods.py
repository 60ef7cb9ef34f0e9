"""What each method is, in words for the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["router", "bound", "baseline", "candidate", "control"]


@dataclass(frozen=True)
class Description:
    """A method as the report shows it."""

    method: str
    label: str
    kind: Kind
    text: str


_NAMED = (
    Description(
        "router",
        "Router",
        "router",
        "The trained policy, greedy: it thinks, calls candidates in rounds, answers.",
    ),
    Description(
        "oracle",
        "Oracle",
        "bound",
        "A bound, known after the fact: the cheapest right way through the pool, by one call with the whole question "
        "or, where its parts are known, by one call a part with the pieces put together without fault. A call is right "
        "when the reply holds a gold answer (one that the question does not hold already), or the base policy draws "
        "one from it. Where no way is right, it asks nobody.",
    ),
    Description(
        "direct",
        "Direct",
        "baseline",
        "The base policy alone: its turn is opened with <answer>, so that it can only answer, from what it knows.",
    ),
    Description(
        "prompt-llm",
        "Prompt LLM",
        "baseline",
        "The base policy, given the same prompt, names a candidate; that candidate gets the question. Where it names "
        "none, it answers as Direct does.",
    ),
    Description(
        "largest-llm",
        "Largest LLM",
        "baseline",
        "Every question goes to the most expensive candidate of the pool.",
    ),
    Description(
        "knn",
        "KNN Router",
        "baseline",
        "The candidate that did best on the most similar profiling questions (MiniLM embeddings, cosine).",
    ),
    Description("mlp", "MLP Router", "baseline", "A network predicts each candidate's score from the embedding."),
    Description("bert", "BERT Router", "baseline", "MiniLM, tuned on the questions to predict each candidate's score."),
    Description(
        "routerdc",
        "RouterDC",
        "baseline",
        "Question and candidates in one space, learned by two contrastive losses on frozen MiniLM embeddings.",
    ),
    Description(
        "graphrouter",
        "GraphRouter",
        "baseline",
        "Tasks (clusters), questions and described candidates as a graph; a network predicts a new question's edges.",
    ),
    Description(
        "routellm-mf",
        "RouteLLM MF",
        "baseline",
        "Matrix factorisation of preferences: the candidate with the best chance to win over the strongest.",
    ),
    Description(
        "hybrid-llm",
        "Hybrid LLM",
        "baseline",
        "The strongest candidate, or the best cheaper one where that is expected to do as well.",
    ),
    Description(
        "irt-router",
        "IRT-Router",
        "baseline",
        "Item response theory: ability of candidates, read from their descriptions, and difficulty of questions.",
    ),
    Description(
        "correctness", "Correctness", "baseline", "A classifier of its own for each candidate: will it be right?"
    ),
    Description(
        "llmrank",
        "LLMRank",
        "baseline",
        "A network ranks the candidates by what is counted in the question (task, complexity) and its embedding.",
    ),
    Description(
        "routoo",
        "Routoo",
        "baseline",
        "A network reads question and candidate and predicts the score; a selector spends a budget over all questions.",
    ),
    Description(
        "avengers-pro", "Avengers-Pro", "baseline", "Clusters of questions, and who did best in the nearest of them."
    ),
    Description(
        "frugalgpt",
        "FrugalGPT",
        "baseline",
        "Up to three candidates one after the other, until a scorer trusts a reply; it pays for all of them.",
    ),
    Description(
        "consistency-cascade",
        "Consistency cascade",
        "baseline",
        "Cheap candidates one after the other until two agree, otherwise the strongest; it pays for all of them.",
    ),
    Description(
        "cascade-routing",
        "Cascade routing",
        "baseline",
        "After each reply it asks on, and whom, where that is worth more than it costs; it pays for all of them.",
    ),
    Description(
        "acar",
        "ACAR",
        "baseline",
        "Three cheap probes; where they disagree, a vote of the two or three strongest candidates. It pays for all.",
    ),
    Description(
        "llm-blender",
        "LLM-Blender",
        "baseline",
        "Every candidate replies, and the reply that ranks first in comparisons by pairs is taken; it pays for all.",
    ),
    Description(
        "prompt-llm-multi",
        "Prompt LLM*",
        "baseline",
        "The base policy splits the question, names a candidate for each part shown by itself, and merges the replies.",
    ),
    Description(
        "knn-multi",
        "KNN Router*",
        "baseline",
        "The base policy splits the question, the KNN Router chooses a candidate for each part, the policy merges.",
    ),
    Description(
        "cot",
        "CoT",
        "baseline",
        "The base policy alone, as Direct, but its turn is opened with <think> and not <answer>.",
    ),
    Description(
        "sft",
        "SFT",
        "baseline",
        "A copy of the base policy, tuned on the training questions to answer by itself; it calls nobody.",
    ),
    Description(
        "rag",
        "RAG",
        "baseline",
        "The base policy answers from the passages of a corpus that fit the question best (BM25), without a candidate.",
    ),
    Description(
        "search-r1",
        "Search-R1",
        "baseline",
        "The trained policy with a search of the corpus behind every call; it was trained with candidates instead.",
    ),
    Description(
        "random",
        "Random",
        "baseline",
        "A candidate drawn with equal probability for each question.",
    ),
    Description(
        "warm-start",
        "Before PPO",
        "control",
        "The base policy as a router with all its turns: what training added starts here.",
    ),
    Description(
        "one-call",
        "Router, one call",
        "control",
        "The trained policy, allowed a single call: what asking again adds.",
    ),
    Description(
        "renamed",
        "Router, new names",
        "control",
        "The trained policy, every candidate under a name that no training question showed: what it owes to names.",
    ),
    Description(
        "warm-start-renamed",
        "Before PPO, new names",
        "control",
        "The base policy as a router, every candidate under such a name.",
    ),
)
_BY_NAME = {item.method: item for item in _NAMED}


def describe(method: str) -> Description:
    """The description of a method in metrics; `fixed:` and `forced:` carry a candidate's name."""
    kind, _, candidate = method.partition(":")
    if kind == "fixed":
        return Description(method, candidate, "candidate", f"Every question goes to {candidate}.")
    if kind == "forced":
        text = f"The trained policy, unaware that {candidate} answers every call: what choosing adds to asking."
        return Description(method, f"Router, only {candidate}", "control", text)
    return _BY_NAME[method]
