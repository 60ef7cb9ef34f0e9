"""A small made-up evaluation: seven sets, three candidates (one unseen), every method on every question."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from stages.evaluate.attempt import PoolName, Result
from stages.evaluate.calibration import Bin, Calibration
from stages.evaluate.metrics import Evaluation, evaluate
from stages.evaluate.own import Own
from stages.evaluate.report.curves import Curves
from stages.evaluate.sheet import Measured
from stages.evaluate.statistics import Resamples
from stages.shared.params import DATASETS, Params, load_params
from stages.shared.pool.candidate import Descriptor, TopicSkill
from stages.shared.questions import Question, SubQuestion

ROOT = Path(__file__).resolve().parents[3]
SEEN, EVERY = ("Arlix", "Bomon"), ("Arlix", "Bomon", "Guvex")
SINGLE = ("nq", "triviaqa", "popqa")
POOLS: dict[PoolName, tuple[str, ...]] = {"seen": SEEN, "all": EVERY}
SKILL = {
    "router": 0.75, "direct": 0.03, "prompt-llm": 0.4, "largest-llm": 0.5, "knn": 0.55, "random": 0.3,
    "warm-start": 0.35, "oracle": 0.95, "fixed:Arlix": 0.4, "fixed:Bomon": 0.45, "forced:Arlix": 0.42,
}  # fmt: skip
"""How often each method is right."""
SURE = Calibration(0.05, 0.1, 40, (Bin(0.25, 0.2, 10), Bin(0.95, 0.9, 30)))
Make = Callable[..., Result]


@dataclass(frozen=True)
class Sample:
    """What a report needs."""

    questions: tuple[Question, ...]
    results: tuple[Result, ...]
    evaluation: Evaluation
    descriptors: tuple[Descriptor, ...]
    curves: Curves


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
            cost_calls=cost * 1.5,
            called=tuple(called),
            own=Own(read=60, written=20, cost=0.5),
            choosing=Own(),
            faults=tuple(faults),
            transcript=transcript,
            latency_s=0.5 * len(called),
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
    results = make_results(questions, make_result)
    sizes: dict[str, int] = dict.fromkeys(DATASETS, 12)
    evaluation = evaluate(
        Measured.of(results, questions, "seen"),
        Measured.of(results, questions, "all"),
        POOLS,
        Resamples(sizes, 500, 0.95, 7),
        synthetic=True,
        seed=7,
        count=500,
        calibrations={"prompt": SURE, "knn": SURE},
    )
    return Sample(questions, tuple(results), evaluation, make_descriptors(), make_curves(31))


def make_results(questions: Sequence[Question], make_result: Make) -> list[Result]:
    """Every method on every question in both pools, right as often as `SKILL` says."""
    rng = random.Random(5)
    results = []
    for pool, candidates in POOLS.items():
        for method, rate in SKILL.items():
            for question in questions:
                called = [rng.choice(candidates) for _ in range(1 if question.hops == 1 else 2)]
                em, cost = float(rng.random() < rate), 3 * rng.random() + rate
                transcript = transcript_of(question, called[0])
                results.append(make_result(question, method, pool, em, called, cost, (), transcript))
    return results


def transcript_of(question: Question, called: str) -> str:
    """A call that is answered rightly, and the answer."""
    return (
        f"<think> {question.topic or 'two steps'} then look it up </think> <search> {called} : "
        f"{question.question} </search>\n<information> it is {question.answers[0]} </information>\n"
        f"<think> done </think> <answer> {question.answers[0]} </answer>"
    )


def make_descriptors() -> tuple[Descriptor, ...]:
    """Three candidates measured on two topics."""
    skills = (
        {"stone": TopicSkill(0.9 - index / 5, 0.9, 40), "song": TopicSkill(index / 4, 0.2, 40)}
        for index in range(len(EVERY))
    )
    return tuple(Descriptor(name, 0.4, 0.5, skill, name in SEEN) for name, skill in zip(EVERY, skills, strict=True))


def make_curves(steps: int) -> Curves:
    """Training that goes up, validated every tenth step."""
    lines = {
        name: [(float(step), start + slope * step) for step in range(steps)]
        for name, start, slope in (("reward", 0, 0.01), ("em", 0.2, 0.02), ("format", 0.9, 0.003), ("calls", 1, 0.025))
    }
    return {name: {"train": line[1:], "validation": line[::10]} for name, line in lines.items()}
