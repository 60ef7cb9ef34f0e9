"""A scripted policy, a scripted pool and two very different tokenizers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from stages.shared.episode.roster import make_roster
from stages.shared.episode.types import Generation, Roster
from stages.shared.pool.candidate import Candidate, Descriptor, Outcome, Reply, TopicSkill

TAGS = [f"<{slash}{name}>" for name in ("think", "search", "information", "answer") for slash in ("", "/")]
TEXT = """<think> topic stone , best 95 Arlix </think>
<search> Arlix : what is the quarry of zumako ? </search>
<information> it is belane . unavailable no such call ; write name : question , then answer
</information> <think> done </think> <answer> belane </answer> no answer"""
WORDS = sorted({word for word in TEXT.split() if word not in TAGS}) + list("abcdefghijklmnopqrstuvwxyz")
CHAT = (
    "{% for m in messages %}{{ '<|im_start|> ' + m['role'] + '\\n' + m['content'] + ' <|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|> assistant\\n' }}{% endif %}"
)


def _finish(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = CHAT
    return fast


def word_tokenizer() -> PreTrainedTokenizerFast:
    """WordPiece over single words: every tag is one added token, white space is nothing."""
    pieces = ["[UNK]", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "user", "assistant", *WORDS]
    pieces += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz0123456789"]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", continuing_subword_prefix="##"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    tokenizer.add_tokens([AddedToken(tag, normalized=False) for tag in TAGS])
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>", "<|endoftext|>"])
    return _finish(tokenizer)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE: a tag is several tokens, and one token can hold the end of a tag and what follows it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["h>\nr>\n</s ar>< h>\n"] * 40 + TEXT.split("\n"), trainer)
    return _finish(tokenizer)


@pytest.fixture(scope="session", params=["word", "byte"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    return {"word": word_tokenizer, "byte": byte_tokenizer}[request.param]()


@pytest.fixture(scope="session")
def byte_level() -> PreTrainedTokenizerFast:
    return byte_tokenizer()


@dataclass
class ScriptedPolicy:
    """Writes the given texts, one a turn, token by token as a model does: halts behind a stop string, or at the limit.

    With `halts` off it writes on behind the stop string, like a token that reaches past it.
    """

    tokenizer: PreTrainedTokenizerFast
    texts: Sequence[str]
    with_log_probs: bool = True
    halts: bool = True
    contexts: list[tuple[int, ...]] = field(default_factory=list)
    limits: list[int] = field(default_factory=list)
    stops: list[tuple[str, ...]] = field(default_factory=list)
    written: list[tuple[int, ...]] = field(default_factory=list)

    async def __call__(self, context: Sequence[int], *, max_tokens: int, stop: Sequence[str]) -> Generation:
        ids = self.tokenizer.encode(self.texts[len(self.written) % len(self.texts)], add_special_tokens=False)
        for index in range(1, len(ids)):
            if self.halts and any(end in self.tokenizer.decode(ids[:index]) for end in stop):
                ids = ids[:index]
                break
        cut = tuple(ids[:max_tokens])
        self.contexts.append(tuple(context))
        self.limits.append(max_tokens)
        self.stops.append(tuple(stop))
        self.written.append(cut)
        log_probs = tuple(-0.5 for _ in cut) if self.with_log_probs else None
        return Generation(cut, log_probs, "length" if len(cut) < len(ids) else "stop")


@dataclass
class ScriptedPool:
    """Answers every query with one reply."""

    reply: Reply
    asked: list[tuple[str, str]] = field(default_factory=list)

    @property
    def candidates(self) -> Mapping[str, Candidate]:
        return {name: Candidate(name, name, "http://localhost/v1", 2.0, 0.5) for name in ("Arlix", "Bomon")}

    async def ask(self, name: str, query: str) -> Reply:
        self.asked.append((name, query))
        return self.reply


@pytest.fixture(scope="session")
def policy() -> type[ScriptedPolicy]:
    return ScriptedPolicy


@pytest.fixture(scope="session")
def pool() -> Callable[..., ScriptedPool]:
    def make(text: str = "it is belane .", outcome: Outcome = Outcome.ANSWERED, tokens: int = 3) -> ScriptedPool:
        return ScriptedPool(Reply(text, outcome, prompt_tokens=10, completion_tokens=tokens))

    return make


@pytest.fixture(scope="session")
def descriptors() -> tuple[Descriptor, ...]:
    arlix = Descriptor("Arlix", 0.4, 1.4, {"stone": TopicSkill(0.93, 0.94, 30), "song": TopicSkill(0.12, 0.2, 30)})
    bomon = Descriptor("Bomon", 0.02, 0.2, {"stone": TopicSkill(0.225, 0.3, 30)}, seen=False, summary="small, cheap")
    return arlix, bomon


@pytest.fixture(scope="session")
def roster(descriptors: tuple[Descriptor, ...]) -> Roster:
    return make_roster(descriptors)
