"""A small made-up evaluation: seven sets, three candidates (one unseen), every method on every question."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from stages.evaluate.attempt import PoolName, Result
from stages.evaluate.metrics import Evaluation, Measured, evaluate
from stages.evaluate.statistics import Resamples
from stages.shared.params import DATASETS, Params, load_params
from stages.shared.pool.candidate import Descriptor, TopicSkill
from stages.shared.questions import Question, SubQuestion

ROOT = Path(__file__).resolve().parents[3]
SEEN, EVERY = ("Arlix", "Bomon"), ("Arlix", "Bomon", "Guvex")
SINGLE = ("nq", "triviaqa", "popqa")
Make = Callable[..., Result]


@dataclass(frozen=True)
class Sample:
    """What a report needs."""

    questions: tuple[Question, ...]
    results: tuple[Result, ...]
    evaluation: Evaluation
    descriptors: tuple[Descriptor, ...]
    curves: dict[str, list[float]]


def make_questions(per_set: int) -> tuple[Question, ...]:
    found = []
    for dataset in DATASETS:
        for index in range(per_set):
            text, topic = f"what is the {dataset} thing number {index} ?", ("stone", "song")[index % 2]
            several = dataset not in SINGLE
            parts = (
                tuple(SubQuestion(f"{dataset} part {index} {n} ?", (f"p{n}",), topic) for n in range(2))
                if several
                else ()
            )
            found.append(
                Question(
                    text,
                    (f"answer {index}", f"alias {index}"),
                    dataset,
                    "test",
                    "" if several else topic,
                    2 if several else 1,
                    parts,
                )
            )
    return tuple(found)


@pytest.fixture(scope="session")
def questions() -> tuple[Question, ...]:
    return make_questions(12)


@pytest.fixture(scope="session")
def make_result() -> Make:
    def make(
        question: Question,
        method: str,
        pool: PoolName = "seen",
        em: float = 1.0,
        called: Sequence[str] = ("Arlix",),
        cost: float = 2.0,
        faults: Sequence[str] = (),
        transcript: str = "",
    ) -> Result:
        return Result(
            question=question,
            prediction=question.answers[0] if em else "wrong",
            cost=cost,
            cost_total=cost * 1.5,
            called=tuple(called),
            own_tokens=20,
            faults=tuple(faults),
            transcript=transcript,
            method=method,
            pool=pool,
            em=em,
            f1=em,
        )

    return make


@pytest.fixture(scope="session")
def params() -> Params:
    return load_params(ROOT / "params.yaml")


@pytest.fixture(scope="session")
def sample(questions: tuple[Question, ...], make_result: Make) -> Sample:
    rng = random.Random(5)
    skill = {
        "router": 0.75,
        "direct": 0.03,
        "prompt-llm": 0.4,
        "largest-llm": 0.5,
        "knn": 0.55,
        "random": 0.3,
        "warm-start": 0.35,
        "oracle": 0.95,
        "fixed:Arlix": 0.4,
        "fixed:Bomon": 0.45,
        "forced:Arlix": 0.42,
    }
    names: dict[PoolName, tuple[str, ...]] = {"seen": SEEN, "all": EVERY}
    results = []
    for pool, candidates in names.items():
        for method, rate in skill.items():
            for question in questions:
                called = [rng.choice(candidates) for _ in range(1 if question.hops == 1 else 2)]
                transcript = (
                    f"<think> {question.topic or 'two steps'} then look it up </think> <search> {called[0]} : "
                    f"{question.question} </search>\n<information> it is {question.answers[0]} </information>\n"
                    f"<think> done </think> <answer> {question.answers[0]} </answer>"
                )
                results.append(
                    make_result(
                        question,
                        method,
                        pool,
                        float(rng.random() < rate),
                        called,
                        3 * rng.random() + rate,
                        (),
                        transcript,
                    )
                )
    sizes = dict.fromkeys(DATASETS, 12)
    evaluation = evaluate(
        Measured(results, questions, "seen"),
        Measured(results, questions, "all"),
        names,
        Resamples(sizes, 500, 0.95, 7),
        synthetic=True,
        seed=7,
        count=500,
    )
    descriptors = tuple(
        Descriptor(
            name,
            0.4,
            0.5,
            {"stone": TopicSkill(0.9 - index / 5, 0.9, 40), "song": TopicSkill(index / 4, 0.2, 40)},
            index < 2,
        )
        for index, name in enumerate(EVERY)
    )
    steps = list(range(31))
    curves = {
        "step": [float(s) for s in steps],
        "reward": [0.01 * s for s in steps],
        "em": [min(1, 0.2 + 0.02 * s) for s in steps],
        "format_rate": [0.9 + 0.003 * s for s in steps],
        "calls": [1 + s / 40 for s in steps],
    }
    return Sample(questions, tuple(results), evaluation, descriptors, curves)
