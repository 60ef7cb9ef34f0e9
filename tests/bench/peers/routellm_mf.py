"""RouteLLM's own matrix factorisation on the records that `tests/bench/routers.py` lays out, in the peers' environment.

`python routellm_mf.py FOLDER`: preferences are all pairs of candidates of which one scored better on a question. They
train routellm's `MFModel_Train` by its own `train_loops` with the settings of its own script (100 epochs; `EPOCHS` says
how many here), and its `MFModel` then says, one question at a time, how strong each candidate is; the strongest is
chosen. What is replaced: its 64 models by ours, OpenAI's embedding by the same MiniLM vectors. It answers into
FOLDER/routellm.json, as `llmrouter_lib.py` does.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

os.environ.setdefault("OPENAI_API_KEY", "unused")
from routellm.routers.matrix_factorization import model as inference
from routellm.routers.matrix_factorization import train_matrix_factorization as training

WIDTH, DIM, BATCH, ALPHA, RATE, DECAY, HELD = 384, 128, 64, 0.1, 3e-4, 1e-5, 0.05
"""Of MiniLM; the rest as in routellm's script, the last the share that its progress bar is measured on."""
EPOCHS = 5
"""Its script says 100; on these records the loss of the pairs that are held back stops falling at the fourth."""


def main(folder: Path, epochs: int) -> None:
    """Fit, choose, write."""
    plan = json.loads((folder / "bench.json").read_text())
    vectors = np.load(folder / "vectors.npy")
    start = time.process_time()
    names, pairs = preferences(folder / "train.jsonl")
    replace(names, dict(zip(plan["texts"], vectors, strict=True)))
    model = fitted(pairs, len(names), folder / "vectors.npy", len(vectors), epochs)
    trained = time.process_time()
    with torch.no_grad():
        chosen = [names[int(model([*range(len(names))], text).argmax())] for text in plan["asked"]]
    decided = time.process_time()
    found = {"chosen": chosen, "fit_s": trained - start, "decide_ms": 1000 * (decided - trained) / len(chosen),
             "epochs": epochs, "pairs": len(pairs)}  # fmt: skip
    (folder / "routellm.json").write_text(json.dumps({"routellm-mf": found}))
    print("routellm", {key: value for key, value in found.items() if key != "chosen"}, flush=True)


def preferences(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """The candidates, and a row of routellm's for every two of which one scored better on a question."""
    scores: dict[int, dict[str, float]] = {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        scores.setdefault(row["embedding_id"], {})[row["model_name"]] = row["performance"]
    names = sorted({name for known in scores.values() for name in known})
    pairs = [
        {"idx": index, "model_a": one, "model_b": other, "winner": "model_a"}
        for index, known in scores.items()
        for one in names
        for other in names
        if known[one] > known[other]
    ]
    return names, pairs


def replace(names: list[str], vectors: dict[str, np.ndarray]) -> None:
    """The candidates stand for its models, and MiniLM for OpenAI's embedding."""
    training.MODEL_IDS = {name: place for place, name in enumerate(names)}

    def create(input: list[str], model: str) -> SimpleNamespace:
        """As OpenAI's client answers."""
        return SimpleNamespace(data=[SimpleNamespace(embedding=vectors[input[0]])])

    inference.OPENAI_CLIENT = SimpleNamespace(embeddings=SimpleNamespace(create=create))


def fitted(pairs: list[dict[str, Any]], models: int, vectors: Path, prompts: int, epochs: int) -> Any:
    """Trained by routellm's code, then loaded into the class that it decides by."""
    order = np.random.default_rng(42).permutation(len(pairs))
    held = round(HELD * len(pairs))
    shuffled = [pairs[place] for place in order]
    train = training.PairwiseDataset(shuffled[held:]).get_dataloaders(batch_size=BATCH, shuffle=True)
    test = training.PairwiseDataset(shuffled[:held]).get_dataloaders(1024, shuffle=False)
    net = training.MFModel_Train(DIM, models, prompts, text_dim=WIDTH, npy_path=vectors)
    training.train_loops(net, train, test, lr=RATE, weight_decay=DECAY, alpha=ALPHA, num_epochs=epochs, device="cpu")
    weights = net.state_dict()
    model = inference.MFModel(DIM, models, WIDTH, 1, True)
    model.load_state_dict({
        "P.weight": weights["P.weight"], "text_proj.0.weight": weights["text_proj.weight"],
        "classifier.0.weight": weights["classifier.weight"],
    })  # fmt: skip
    return model.eval()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else EPOCHS)
