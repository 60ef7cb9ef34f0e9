"""LLMRouter's own routers on the records that `tests/bench/routers.py` lays out, in an environment of its own.

`python llmrouter_lib.py FOLDER`: reads FOLDER/bench.json (questions to decide about, where MiniLM is) and the files of
LLMRouter's layout beside it, trains each router by its own trainer with the hyperparameters of its own configuration
file, asks `route_single` about each question, and writes FOLDER/theirs.json. What is replaced: Longformer by the MiniLM
vectors that ours read too, RouterDC's mDeBERTa by MiniLM, the fixed widths by theirs, and the file that is read again
for each question by what it held. RouterDC's 500 steps of 32 questions of 512 tokens would take hours on one thread: it
gets 40 of 16 of 128.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

WIDTH = 384
CONFIGURATION: Mapping[str, dict[str, Any]] = {
    "knn": {"n_neighbors": 5, "weights": "uniform", "algorithm": "auto", "leaf_size": 30, "p": 2, "n_jobs": 1},
    "mlp": {"hidden_layer_sizes": [128, 64], "activation": "relu", "alpha": 1e-4, "learning_rate_init": 1e-3,
            "max_iter": 500},
    "routellm-mf": {"latent_dim": 128, "text_dim": WIDTH, "lr": 1e-3, "epochs": 5, "noise_alpha": 0.0},
    "graphrouter": {"hidden_dim": 64, "learning_rate": 1e-3, "weight_decay": 1e-4, "train_epoch": 100, "batch_size": 4,
                    "train_mask_rate": 0.3, "val_split_ratio": 0.2},
    "routerdc": {"hidden_state_dim": WIDTH, "similarity_function": "cos", "batch_size": 16, "training_steps": 40,
                 "learning_rate": 5e-5, "top_k": 3, "last_k": 3, "temperature": 1.0, "sample_loss_weight": 0.0,
                 "cluster_loss_weight": 1.0, "H": 3, "gradient_accumulation": 1, "device": "cpu", "eval_steps": 10**6,
                 "n_clusters": 3, "source_max_token_len": 128, "target_max_token_len": 128},
}  # fmt: skip
CLASSES = {
    "knn": ("knnrouter", "KNNRouter", "KNNRouterTrainer", "pkl"),
    "mlp": ("mlprouter", "MLPRouter", "MLPTrainer", "pkl"),
    "routellm-mf": ("mfrouter", "MFRouter", "MFRouterTrainer", "pkl"),
    "graphrouter": ("graphrouter", "GraphRouter", "GraphTrainer", "pt"),
    "routerdc": ("routerdc", "DCRouter", "DCTrainer", "pth"),
}


def main(folder: Path) -> None:
    """Every router in turn; one that fails says why and loses no other."""
    plan = json.loads((folder / "bench.json").read_text())
    vectors = dict(zip(plan["texts"], torch.as_tensor(np.load(folder / "vectors.npy")), strict=True))
    found: dict[str, Any] = {}
    for method in plan["methods"]:
        torch.manual_seed(7)
        np.random.seed(7)
        try:
            found[method] = held(method, folder, plan, vectors.__getitem__)
        except (ImportError, ValueError, LookupError, RuntimeError, OSError, TypeError, AttributeError) as error:
            found[method] = {"failed": repr(error)}
        print(method, {key: value for key, value in found[method].items() if key != "chosen"}, flush=True)
        (folder / "theirs.json").write_text(json.dumps(found))


def held(method: str, folder: Path, plan: Mapping[str, Any], embed: Callable[[str], Any]) -> dict[str, Any]:
    """Fitted and asked: the choices, seconds to fit, milliseconds a decision, both of CPU."""
    package, router_class, trainer_class, suffix = CLASSES[method]
    module = importlib.import_module(f"llmrouter.models.{package}.router")
    replace(module, embed, plan["minilm"])
    models = importlib.import_module(f"llmrouter.models.{package}")
    start = time.process_time()
    router = getattr(models, router_class)(str(configuration(method, folder, suffix)))
    getattr(models, trainer_class)(router).train()
    fitted = time.process_time()
    chosen = [router.route_single({"query": text})["model_name"] for text in plan["asked"]]
    decided = time.process_time()
    return {"chosen": chosen, "fit_s": fitted - start, "decide_ms": 1000 * (decided - fitted) / len(chosen)}


def replace(module: Any, embed: Callable[[str], Any], minilm: str) -> None:
    """What needs the hub, or reads a file again for each question."""
    if hasattr(module, "get_longformer_embedding"):
        module.get_longformer_embedding = embed
    if hasattr(module, "load_model"):
        module.load_model = cache(module.load_model)
    if hasattr(module, "DebertaV2Model"):
        from transformers import AutoModel, AutoTokenizer

        module.DebertaV2Tokenizer = Loads(AutoTokenizer, minilm)
        module.DebertaV2Model = Loads(AutoModel, minilm)


class Loads:
    """Stands for a class of transformers, and loads MiniLM whatever is asked for."""

    def __init__(self, auto: Any, path: str) -> None:
        self._auto, self._path = auto, path

    def from_pretrained(self, name: str, **options: Any) -> Any:
        """MiniLM, or its tokenizer."""
        return self._auto.from_pretrained(self._path, local_files_only=True)


def configuration(method: str, folder: Path, suffix: str) -> Path:
    """LLMRouter's YAML of that method, with absolute paths."""
    saved = str(folder / f"{method}.{suffix}")
    path = folder / f"{method}.yaml"
    path.write_text(
        yaml.safe_dump({
            "data_path": {
                "query_embedding_data": str(folder / "embeddings.pt"), "llm_data": str(folder / "llm.json"),
                "routing_data_train": str(folder / "train.jsonl"), "routing_data_test": str(folder / "test.jsonl"),
            },
            "model_path": {"ini_model_path": "", "save_model_path": saved, "load_model_path": saved,
                           "backbone_model": "MiniLM"},
            "metric": {"weights": {"performance": 1, "cost": 0, "llm_judge": 0}},
            "hparam": CONFIGURATION[method],
        })
    )  # fmt: skip
    return path


if __name__ == "__main__":
    main(Path(sys.argv[1]))
