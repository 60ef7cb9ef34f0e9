"""The tiny policy's tokenizer: words of the sandbox, numbers, syllables of its names, letters for the rest."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

from stages.shared.sandbox.lexicon import CANDIDATE_NAMES, SYLLABLES, words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, START, END, UNKNOWN = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "[UNK]"
TAGS = ("<think>", "</think>", "<search>", "</search>", "<information>", "</information>", "<answer>", "</answer>")
SPOKEN = (
    "user", "assistant", "system", "models", "question", "price", "seconds", "topic", "done", "higher", "i",
    "do", "not", "know", "it", "is", "understand", "no", "such", "call", "write", "unavailable", "name",
    "then", "now", "unknown", "again", "a", "and", "to", "best", "skill", "the", "of", "answer", "with", "an",
)  # fmt: skip
"""Words of prompts, replies and thoughts that the questions do not use."""
SILENT = "[,.?]"
"""Punctuation that the sandbox's language does without; leaving it out makes a prompt a fifth shorter."""
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|> {{ message['role'] }} {{ message['content'] }} <|im_end|> {% endfor %}"
    "{% if add_generation_prompt %}<|im_start|> assistant {% endif %}"
)


def vocabulary() -> dict[str, int]:
    """Piece -> id. `##` marks a piece that continues a word."""
    pieces = [PAD, START, END, UNKNOWN, *TAGS, *string.punctuation]
    pieces += [str(number) for number in range(101)]
    pieces += [*CANDIDATE_NAMES, *words(), *SPOKEN, *SYLLABLES, *(f"##{syllable}" for syllable in SYLLABLES)]
    characters = string.ascii_letters + string.digits
    pieces += [*characters, *(f"##{character}" for character in characters)]
    return {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A word-piece tokenizer; white space and line breaks carry no meaning for it."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordPiece(vocab=vocabulary(), unk_token=UNKNOWN, continuing_subword_prefix="##"))
    core.normalizer = normalizers.Replace(Regex(SILENT), " ")
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    core.add_tokens([*TAGS])
    core.add_special_tokens([PAD, START, END])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=END,
        pad_token=PAD,
        unk_token=UNKNOWN,
        additional_special_tokens=[START],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
