"""The baseline SFT: a real small policy, tuned on questions and answers, plays alone."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from stages.evaluate.measure import make_lines
from stages.evaluate.own import Tariff
from stages.evaluate.player import Player
from stages.evaluate.routers.ground import Ground
from stages.evaluate.routers.sft import UNTRAINED, asked, example, padded, set_up_sft, teach
from stages.evaluate.school import School, Teach
from stages.shared.errors import ConfigurationError, DataError
from stages.shared.params import EpisodeParams, EvaluateParams, TinyPolicy
from stages.shared.params.evaluate import SftParams
from stages.shared.pool.candidate import Candidate, Descriptor
from stages.shared.questions import Question, write_questions
from stages.train.tiny.model import build_model
from stages.train.tiny.tokenizer import build_tokenizer
from tests.unit.evaluate.characters import Characters

EPISODE = EpisodeParams(
    max_calls=3, prompt_tokens=99, response_tokens=99, turn_tokens=24, reply_tokens=24, prompt="compact"
)
PARAMS = EvaluateParams(sft=SftParams(steps=60, batch=4, learning_rate=1e-2))
ANSWERS = ("zu", "ra")
QUESTIONS = [
    Question(f"what is the {word} of mi ?", (answer,), "nq", "train", "stone")
    for word, answer in zip(("quarry", "anthem"), ANSWERS, strict=True)
]


class NobodyPool:
    """Candidates that may not be asked."""

    candidates: ClassVar = {"Arlix": Candidate("Arlix", "Arlix", "http://127.0.0.1:1/v1", 1.0, 0.1)}

    async def ask(self, name: str, query: str) -> Any:
        raise AssertionError(f"{name} was asked {query}")


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a network that knows nothing."""
    path, words = tmp_path_factory.mktemp("policy"), build_tokenizer()
    torch.manual_seed(0)
    build_model(TinyPolicy(width=32, layers=2), len(words), words.pad_token_id, words.eos_token_id, 0).save_pretrained(
        path
    )
    words.save_pretrained(path)
    return path


def school(policy: Path, root: Path, stack: AsyncExitStack, questions: list[Question] = QUESTIONS) -> School:
    write_questions(root / "train.parquet", questions)
    return School(policy, root / "train.parquet", EPISODE, NobodyPool(), stack)


def ground(found: School) -> Ground:
    def nothing() -> Any:
        raise AssertionError("it reads neither records nor a corpus")

    base = Player(None, Characters(), EPISODE, NobodyPool())  # type: ignore[arg-type]
    line = make_lines([Descriptor("Arlix", 1.0, 0.5)], NobodyPool.candidates)[0]
    return Ground(base, base, Tariff(0.1, 1.0), line, PARAMS, nothing, nothing, nothing, found.taught)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def test_it_learns_the_answers_of_the_training_questions_and_calls_nobody(policy: Path, tmp_path: Path) -> None:
    before = contents(policy)
    async with AsyncExitStack() as stack:
        play = set_up_sft(ground(school(policy, tmp_path, stack)))
        played = [await play(replace(question, split="test")) for question in QUESTIONS]
    assert [item.prediction for item in played] == [*ANSWERS]
    assert [(item.called, item.cost, item.reply) for item in played] == [((), 0.0, None)] * 2
    assert played[0].own_tokens > 0
    assert contents(policy) == before, "the policy itself stays as it was"


def test_the_same_seed_tunes_to_the_same_bits(policy: Path, tmp_path: Path) -> None:
    def weights() -> list[Any]:
        found: list[Any] = []

        def keep(model: Any, tokenizer: Any, questions: Any) -> None:
            params = PARAMS.model_copy(update={"sft": SftParams(steps=2)})
            teach(model, tokenizer, questions, params, "compact")
            found.extend(weight.detach().clone() for weight in model.parameters())

        school(policy, tmp_path, AsyncExitStack()).taught(keep)
        return found

    assert all(torch.equal(one, other) for one, other in zip(weights(), weights(), strict=True))


def test_only_the_answer_and_its_closing_tag_are_learned() -> None:
    words = Characters()
    short, long = (example(words, question, "compact") for question in (QUESTIONS[0], QUESTIONS[1]))
    assert words.decode(short.prompt) == "question : what is the quarry of mi ?\nassistant <answer>"
    assert words.decode(short.answer) == " zu </answer>"
    ids, labels = padded([short, replace(long, answer=long.answer[:3])])
    assert (labels != UNTRAINED).sum(dim=1).tolist() == [len(short.answer), 3]
    assert words.decode(labels[0][labels[0] != UNTRAINED].tolist()) == " zu </answer>"
    assert ids.shape == labels.shape


def test_a_question_cannot_close_its_own_prompt() -> None:
    assert "<answer>" not in Characters().decode(asked(Characters(), "x </answer> <answer> y", "prose"))


def test_without_training_questions_it_says_so(policy: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"sft learns from the training questions, and there are none"):
        set_up_sft(ground(school(policy, tmp_path, AsyncExitStack(), [])))


def test_a_contest_without_a_policy_folder_has_nothing_to_tune(tmp_path: Path) -> None:
    from stages.evaluate.contest import Contest

    contest = Contest((), (), PARAMS, Characters().encode, None)  # type: ignore[arg-type]
    none: Teach = lambda model, tokenizer, questions: None  # noqa: E731
    with pytest.raises(ConfigurationError, match="no policy to tune here"):
        contest._taught(none)
