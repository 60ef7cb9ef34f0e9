"""Every router that records alone can fit, on LLMRouter's records: real scores of nine models, trivia_qa left out.

Fits on train.json, scores on test.json, and prints accuracy, cost, AIQ and time beside the oracle and the best fixed
candidate. Questions are embedded once (minutes on one CPU thread) and kept under .pointsman/embeddings; after that the
whole bench is to take at most `LIMIT_S`. Run by hand as `python tests/bench/routers.py`, or by `make bench`; writes
metrics/bench/routers.json. LLMRouter's own code is not run beside: see `AGAINST`.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from stages.evaluate.routers.catalogue import FITS, LOOK  # noqa: E402
from stages.evaluate.routers.encoder import Kept, minilm  # noqa: E402
from stages.evaluate.tables.__main__ import text  # noqa: E402
from stages.evaluate.tables.contest import Standing, hold  # noqa: E402
from stages.evaluate.tables.llmrouter import read_llmrouter  # noqa: E402
from stages.shared.files import write_json  # noqa: E402
from stages.shared.params import EvaluateParams  # noqa: E402

RECORDS = ROOT.parent / "shared" / "data" / "routing" / "llmrouter"
BROKEN = ("trivia_qa",)
"""Its scores look broken: an oracle reaches .27."""
LIMIT_S = 60.0
AGAINST = "the best fixed candidate, chosen on the split to fit on"
"""llmrouter-lib 0.4.0 asks for gradio, litellm and torch-geometric, and its routers read Longformer embeddings of a hub
model: no comparison without replacing what it consists of."""


def rows(standing: Standing, seconds: float) -> list[dict[str, object]]:
    """One row a method, and one for the time of all."""
    command = "python tests/bench/routers.py"
    fixed = next(score for score in standing.scores if score.method.startswith("fixed:"))
    found: list[dict[str, object]] = [
        {"name": f"{score.method}, accuracy", "ours": score.accuracy, "against": AGAINST, "theirs": fixed.accuracy,
         "limit": 0.0, "ratio": score.accuracy / fixed.accuracy, "unit": "mean score", "runs": 1, "command": command,
         "low": score.low, "high": score.high, "cost": score.cost, "aiq": score.aiq, "fit_s": score.fit_s,
         "decide_ms": score.decide_ms}
        for score in standing.scores
    ]  # fmt: skip
    whole = {"name": "all methods, embeddings kept", "ours": seconds, "against": "the limit", "theirs": LIMIT_S,
             "limit": 1.0, "ratio": LIMIT_S / seconds, "unit": "s", "runs": 1, "command": command}  # fmt: skip
    return [*found, whole]


def main() -> int:
    """Run the bench; 1 when it took longer than the limit."""
    if not RECORDS.is_dir():
        print(f"skipped: no records at {RECORDS}")
        return 0
    table, encode = read_llmrouter(RECORDS, BROKEN), Kept(minilm, ROOT / ".pointsman" / "embeddings")
    for part in (table.train, table.test):
        encode(part.questions)
    start = time.perf_counter()
    standing = hold(table, tuple(name for name in FITS if name not in LOOK), encode, EvaluateParams())
    seconds = time.perf_counter() - start
    print(text(standing), f"\nall methods with embeddings kept: {seconds:.1f} s, at most {LIMIT_S:.0f}")
    write_json(ROOT / "metrics" / "bench" / "routers.json", rows(standing, seconds))
    return int(seconds > LIMIT_S)


if __name__ == "__main__":
    raise SystemExit(main())
