"""Profile records of a small sandbox, made with its own experts."""

import random
from dataclasses import dataclass

import pytest

from stages.ingest.sandbox import make_questions
from stages.shared.params import EpisodeParams, Expert, RosterParams, WorldParams
from stages.shared.pool.candidate import Descriptor, TopicSkill
from stages.shared.questions import Question
from stages.shared.sandbox.experts import respond
from stages.shared.sandbox.lexicon import DOMAINS
from stages.shared.sandbox.world import World
from stages.train.tiny.tokenizer import build_tokenizer
from stages.train.warm_start.demonstrations import Teacher
from stages.train.warm_start.records import Records, group

EXPERTS = tuple(
    Expert(name=name, skill=dict(zip(DOMAINS, skills, strict=True)), hop_decay=0.5, price=0.4, verbosity=verbosity)
    for name, skills, verbosity in (
        ("Arlix", (0.9, 0.6, 0.3, 0.5), "terse"),
        ("Bomon", (0.3, 0.9, 0.6, 0.5), "sentence"),
        ("Cyqun", (0.6, 0.5, 0.9, 0.8), "full"),
    )
)


@dataclass(frozen=True)
class Profile:
    questions: tuple[Question, ...]
    rows: tuple[dict, ...]
    descriptors: tuple[Descriptor, ...]

    @property
    def records(self) -> Records:
        return group(self.rows)

    def replies(self, text: str) -> dict[str, str]:
        return {row["candidate"]: row["reply"] for row in self.rows if row["question"] == text}


def row(question: str, candidate: str, reply: str, outcome: str = "answered") -> dict:
    return {"question": question, "candidate": candidate, "reply": reply, "outcome": outcome,
            "prompt_tokens": 9, "completion_tokens": 3, "latency_s": 0.4}  # fmt: skip


@pytest.fixture(scope="session")
def profile() -> Profile:
    world, rng = World.generate(WorldParams(entities=60)), random.Random(1)
    sets = (("nq", 30), ("hotpotqa", 40), ("musique", 20))
    questions = [q for name, n in sets for q in make_questions(world, name, "profiling", n, rng)]
    asked = dict.fromkeys(text for q in questions for text in (q.question, *(part.question for part in q.parts)))
    rows = [row(text, expert.name, respond(world, expert, text).text) for text in asked for expert in EXPERTS]
    descriptors = [
        Descriptor(e.name, e.price, 0.4, {domain: TopicSkill(s, s, 30) for domain, s in e.skill.items()})
        for e in EXPERTS
    ]
    return Profile(tuple(questions), tuple(rows), tuple(descriptors))


@pytest.fixture(scope="session")
def tokenizer():
    return build_tokenizer()


@pytest.fixture
def teach(profile, tokenizer):
    """A teacher on the profile, with the given settings changed."""

    def make(**changes) -> Teacher:
        settings = {
            "records": profile.records,
            "descriptors": profile.descriptors,
            "roster": RosterParams(shuffle=True, rename=1, smallest=2),
            "episode": EpisodeParams(
                prompt_tokens=256, response_tokens=200, turn_tokens=48, reply_tokens=24, prompt="compact"
            ),
            "decompose": 0.5,
            "tokenizer": tokenizer,
            "thrifty": False,
        }
        return Teacher(**{**settings, **changes})

    return make
