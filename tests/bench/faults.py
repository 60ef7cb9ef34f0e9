"""The campaign at length: profile, rollouts and evaluation through 30 % faults, and a profile killed again and again.

For several seeds every score under faults is held against fair weather, and the provider's own bill against the ledger,
attempt by attempt (tests/faults/campaign.py says how); then one run after another is killed with SIGKILL at a random
moment until the profile is whole, with a provider that honours idempotency keys. Ends at the first difference.

Run by hand as `python tests/bench/faults.py`, or by `make bench`; writes metrics/bench/faults.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "faults")]

import campaign  # noqa: E402
from weather import Weather, weather  # noqa: E402

from stages.shared.files import write_json  # noqa: E402
from stages.shared.pool.money import dollars  # noqa: E402

QUESTIONS, SHARE = 100, 0.3
KILLED_QUESTIONS = 600


def played(share: float, seed: int, folder: Path) -> tuple[campaign.Scores, Weather, tuple[int, int]]:
    """One campaign: its scores, its provider, and what is settled and open in its ledgers."""
    with weather(campaign.POOL, campaign.WORLD, share, seed=seed) as provider:
        scores = asyncio.run(campaign.run(provider.base_url, folder, campaign.make_questions(QUESTIONS)))
    return scores, provider, campaign.reconcile(provider.bills, folder)


def storms(seeds: int, folder: Path) -> dict[str, Any]:
    """Every seed's campaign beside fair weather."""
    fair, calm, _ = played(0.0, 0, folder / "fair")
    same, faults, asked, settled, bill = 0, 0, 0, 0, 0
    for seed in range(seeds):
        scores, provider, sums = played(SHARE, seed, folder / str(seed))
        assert scores == fair, f"seed {seed}: scores differ"
        same, faults, asked = same + 1, faults + sum(provider.met.values()), asked + sum(provider.asked.values())
        settled, bill = settled + sums[0], bill + provider.bill
        print(f"seed {seed}: {sum(provider.asked.values())} attempts, {sum(provider.met.values())} faults; "
              f"billed {dollars(provider.bill)}, settled {dollars(sums[0])}")  # fmt: skip
    return {
        "name": f"faults, campaigns of {sum(calm.asked.values())} calls with the same scores", "ours": same,
        "against": "campaigns", "theirs": seeds, "limit": 1.0, "ratio": same / seeds, "unit": "campaigns",
        "runs": seeds,
        "command": "python tests/bench/faults.py", "faults": faults, "attempts": asked,
        "settled_picos": settled, "billed_picos": bill,
    }  # fmt: skip


def kills(folder: Path, most: int) -> dict[str, Any]:
    """A profile, killed at random moments, until it is whole or `most` kills were made."""
    rng, killed = random.Random(0), 0
    kinds = ("503", "429", "html", "half a body")
    with weather(campaign.POOL, campaign.WORLD, 0.2, kinds, remembers=True) as provider:
        while killed < most:
            process = start(provider, folder)
            seen = sum(provider.asked.values())
            while sum(provider.asked.values()) == seen and process.poll() is None:
                time.sleep(0.001)
            time.sleep(rng.random() * 0.05)
            process.send_signal(signal.SIGKILL)
            if process.wait() == 0:
                break
            killed += 1
        said = start(provider, folder).communicate()[0]
        sums = campaign.reconcile(provider.bills, folder)
        bill = provider.bill
        again = sum(max(0, count - 1) for count in provider.charged.values())
    with weather(campaign.POOL, campaign.WORLD, 0.0) as calm, campaign.ledger(folder / "fair", "profile") as ledger:
        questions = campaign.make_questions(KILLED_QUESTIONS)
        fair = asyncio.run(campaign.profile(calm.base_url, ledger, folder / "fair", questions))
    assert json.loads(said) == sorted([*key, text] for key, text in fair.items()), "replies differ"
    broken = sum(entry.open > 0 for entry in campaign.entries(folder).values())
    assert again == 0, f"{again} answers were charged again"
    assert bill == sums[0], f"billed {dollars(bill)}, settled {dollars(sums[0])}"
    print(f"{killed} SIGKILLs: the same replies, settled {dollars(sums[0])}, {again} answers charged again; "
          f"{broken} attempts whose answers did not arrive or were not written down")  # fmt: skip
    return {
        "name": f"faults, a profile of {len(fair)} calls killed with SIGKILL", "ours": again, "against": "broken off",
        "theirs": broken, "limit": 1.0, "ratio": again / max(1, broken), "unit": "answers charged again",
        "runs": killed,
        "command": "python tests/bench/faults.py",
    }  # fmt: skip


def start(provider: Weather, folder: Path) -> subprocess.Popen[str]:
    """A profile in a process of its own."""
    command = [sys.executable, campaign.__file__, provider.base_url, str(folder), str(KILLED_QUESTIONS)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def main() -> None:
    """Both, printed and written."""
    parser = argparse.ArgumentParser(description="Campaigns through bad weather, at length.")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--kills", type=int, default=100)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        rows = [storms(given.seeds, Path(place) / "storms"), kills(Path(place) / "kills", given.kills)]
    write_json(ROOT / "metrics" / "bench" / "faults.json", rows)


if __name__ == "__main__":
    main()
