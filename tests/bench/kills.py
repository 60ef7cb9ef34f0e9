"""Whole runs of the profile `smoke`, killed with SIGKILL at random moments, end in the hashes of a run left alone.

`pointsman run` is started again and again, and killed after a random time: mostly it and every process under it, as a
machine that goes down does, otherwise one of them alone, the run itself among them. A run that ends is held against the
calm one, file by file; then another is begun from nothing, until so many kills are made. Ends at the first difference,
and at a process that outlives its run. All moments and victims follow from a seed; what they hit does not.

`--at publish,ingest:end` aims: each kill comes at a random moment of one of these stages' work, or of their ends, when
the stage itself is over and DVC keeps what it made.

Run by hand as `python tests/bench/kills.py --kills 100` (half an hour and more; `make bench` leaves it out unless
POINTSMAN_BENCH_KILLS says how many); writes metrics/bench/kills.json.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "pipeline")]

from test_smoke import STAGES, copy_checkout, pointsman  # noqa: E402

from flows.dvc import environment  # noqa: E402
from stages.shared.files import sha256, write_json  # noqa: E402

MARK = "POINTSMAN_KILLS_BENCH"
"""The environment variable by which every process of a run is known, whoever started it."""
SOONEST_S, LATEST_S = 0.5, 45.0
WHOLE = 0.7
"""Share of kills that take everything."""
END = ":end"
END_S = 3.0
"""A kill at a stage's end comes within so many seconds of it."""
MOST_A_ROUND = 10
"""Kills of one run, where they are aimed: an end passes by once."""
PATIENCE_S = 600.0
LINGER_S = 20.0
CLOCKED = {"README.md", "metrics/train.json", "provenance.json", "sbom.cdx.json"}
"""Files of a release that say how long the training took, or when."""
CLOCKS = ("seconds", "tokens_per_s", "calls_per_s", "playing_s", "paid")
"""Columns of curves that measure this machine, and what an attempt paid rather than took from the ledger."""


@dataclass
class Bench:
    """What was killed, and what came of it."""

    rng: random.Random
    most: int
    aims: tuple[str, ...] = ()
    """Stages, or their ends; nothing: any moment."""
    spans: dict[str, float] = field(default_factory=dict)
    """Seconds that the calm run's stages took."""
    hit: Counter[str] = field(default_factory=Counter)
    """Kills by the stage that was under way."""
    alone: int = 0
    """Kills of one process."""
    whole: int = 0
    """Runs that ended with the calm one's hashes."""

    @property
    def kills(self) -> int:
        """So far."""
        return sum(self.hit.values())

    def wait_s(self) -> float:
        """Seconds until a kill; short ones as likely as long ones."""
        return math.exp(self.rng.uniform(math.log(SOONEST_S), math.log(LATEST_S)))

    def round(self, root: Path, mark: str) -> None:
        """One whole run, killed until it ends or the kills are used up; after that it is left alone."""
        before = self.kills
        while True:
            began, process = time.monotonic(), start(root, mark)
            may = self.kills < self.most and not (self.aims and self.kills - before >= MOST_A_ROUND)
            if may and (place := self.reach(root, process, mark)):
                self.hit[place] += 1
                self.kill(process, mark)
            code = finish(process, mark)
            seconds = time.monotonic() - began
            print(f"{self.kills} kills, {under_way(root)}: exit {code} after {seconds:.0f} s", flush=True)
            if code == 0:
                return

    def reach(self, root: Path, process: subprocess.Popen[bytes], mark: str) -> str:
        """Wait for the moment of a kill; what is under way then, "" where the run has ended before."""
        if not self.aims:
            return "" if ended(process, self.wait_s()) else under_way(root)
        ahead = [aim for aim in self.aims if STAGES.index(aim.removesuffix(END)) >= STAGES.index(under_way(root))]
        if not ahead:
            return ""
        aim, share = self.rng.choice(ahead), self.rng.random()
        stage = aim.removesuffix(END)
        begun = wait_for(process, lambda: works_at(stage, mark))
        if aim == stage:
            return aim if begun and not ended(process, share * self.spans[stage]) and under_way(root) == stage else ""
        over = begun and wait_for(process, lambda: not works_at(stage, mark))
        return aim if over and not ended(process, share * END_S) else ""

    def kill(self, process: subprocess.Popen[bytes], mark: str) -> None:
        """Everything, or one process of it."""
        family = members(mark)
        if self.rng.random() < WHOLE:
            for member in family:
                with suppress(psutil.Error):
                    member.kill()
            process.wait()
        else:
            self.alone += 1
            with suppress(psutil.Error):
                self.rng.choice(family).kill()


def start(root: Path, mark: str) -> subprocess.Popen[bytes]:
    """`pointsman run` in a checkout."""
    known = environment() | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", MARK: mark}
    with (root.parent / f"{root.name}.log").open("ab") as log:
        command = [sys.executable, "-m", "flows.cli", "run"]
        return subprocess.Popen(command, cwd=root, env=known, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def ended(process: subprocess.Popen[bytes], within_s: float) -> bool:
    """Whether it ends within so many seconds."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(within_s)
    return process.poll() is not None


def wait_for(process: subprocess.Popen[bytes], holds: Callable[[], bool]) -> bool:
    """Whether it comes to hold while the run goes on."""
    while process.poll() is None:
        if holds():
            return True
        time.sleep(0.05)
    return False


def works_at(stage: str, mark: str) -> bool:
    """Whether a run's stage is at work, beside DVC."""
    for member in members(mark):
        with suppress(psutil.Error):
            if f"stages.{stage}" in member.cmdline():
                return True
    return False


def finish(process: subprocess.Popen[bytes], mark: str) -> int:
    """Let it end by itself. A process of it that was cut off gets time to notice; a run that went well leaves none."""
    assert ended(process, PATIENCE_S), f"the run hangs: {members(mark)}"
    deadline = time.monotonic() + LINGER_S
    while (left := members(mark)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not (left and process.returncode == 0), f"left behind: {[member.cmdline() for member in left]}"
    return process.returncode


def members(mark: str) -> list[psutil.Process]:
    """Every living process of a run."""
    found = []
    for each in psutil.process_iter():
        with suppress(psutil.Error):
            if each.status() != psutil.STATUS_ZOMBIE and each.environ().get(MARK) == mark:
                found.append(each)
    return found


def under_way(root: Path) -> str:
    """The first stage that DVC does not know to be done."""
    lock = root / "dvc.lock"
    done = (yaml.safe_load(lock.read_text(encoding="utf-8")) or {}).get("stages", {}) if lock.exists() else {}
    return next((stage for stage in STAGES if stage not in done), "none")


def hashes(root: Path) -> dict[str, str]:
    """Everything that a run leaves, but for what a clock wrote."""
    names = ("ingest", "profile", "evaluate", "train/policy", "train/warm_start")
    files = [path for name in names for path in (root / "artifacts" / name).rglob("*") if path.is_file()]
    files += [root / "artifacts" / "train" / "episodes.jsonl"]
    files += [root / "metrics" / f"{stage}.json" for stage in ("ingest", "profile", "evaluate")]
    found = {str(path.relative_to(root)): sha256(path) for path in files}
    release = json.loads((root / "artifacts" / "publish" / "release.json").read_text(encoding="utf-8"))
    found |= {f"release/{name}": digest for name, digest in release["files"].items() if name not in CLOCKED}
    return found | {"curves": curves(root / "artifacts" / "train" / "curves.csv")}


def curves(path: Path) -> str:
    """The curves of a training, without what a clock measured."""
    rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
    return json.dumps([{key: row[key] for key in row if not key.startswith(CLOCKS)} for row in rows])


def checkout(place: Path) -> Path:
    """A checkout with the parameters of `smoke`."""
    copy_checkout(place)
    used = pointsman(place, "use", "smoke")
    assert used.returncode == 0, used.stderr
    return place


def trained(calm: Path, place: Path) -> Path:
    """A copy of the calm run as it was before its evaluation: nothing that came after is left to be used again."""
    shutil.copytree(calm, place, symlinks=True)
    for name in ("artifacts/evaluate", "artifacts/publish", ".pointsman/replies", ".pointsman/s3", ".dvc/cache/runs"):
        shutil.rmtree(place / name, ignore_errors=True)
    for path in place.glob(".pointsman/runs/ledger/evaluate-*"):
        path.unlink()
    lock = yaml.safe_load((place / "dvc.lock").read_text(encoding="utf-8"))
    lock["stages"] = {name: lock["stages"][name] for name in STAGES[:3]}
    (place / "dvc.lock").write_text(yaml.safe_dump(lock), encoding="utf-8")
    return place


def spans(root: Path) -> dict[str, float]:
    """Seconds that each stage took in a run, DVC's part of it included."""
    return {stage: json.loads((root / f".pointsman/took/{stage}.json").read_text())["seconds"] for stage in STAGES}


def play(place: Path, most: int, seed: int, late: bool, aims: tuple[str, ...] = ()) -> Bench:
    """The calm run, then runs under fire. Raises AssertionError at the first difference."""
    calm = place / "calm"
    if under_way(calm) != "none":
        checkout(calm)
        assert finish(start(calm, "calm"), "calm") == 0, (place / "calm.log").read_text(errors="replace")[-3000:]
    expected, bench = hashes(calm), Bench(random.Random(seed), most, aims, spans(calm) if aims else {})
    while bench.kills < most:
        name = f"{'late' if late else 'aimed' if aims else 'round'}-{bench.whole + 1}"
        root = trained(calm, place / name) if late else checkout(place / name)
        bench.round(root, root.name)
        found = hashes(root)
        differ = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        assert not differ, f"{root}: {differ} differ from {calm}"
        bench.whole += 1
    return bench


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description="Kill whole runs of the profile smoke, again and again.")
    parser.add_argument("--kills", type=int, default=int(os.environ.get("POINTSMAN_BENCH_KILLS", "0")))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep everything here, and use the calm run that is there")
    parser.add_argument("--late", action="store_true", help="kill from the evaluation on")
    parser.add_argument("--at", default="", help=f"stages to aim at, STAGE or STAGE{END}, separated by commas")
    given = parser.parse_args()
    aims = tuple(filter(None, given.at.split(",")))
    if wrong := [aim for aim in aims if aim.removesuffix(END) not in STAGES]:
        parser.error(f"--at {wrong[0]}: the stages are {', '.join(STAGES)}")
    if not given.kills:
        print("kills: skipped; say how many with --kills or POINTSMAN_BENCH_KILLS")
        return
    with tempfile.TemporaryDirectory() as folder:
        bench = play(given.folder or Path(folder), given.kills, given.seed, given.late, aims)
    aimed = f" at {given.at.replace(',', ' and ')}" * bool(aims)
    what = "runs of smoke, from the evaluation on," if given.late else "whole runs of smoke"
    row = {
        "name": f"kills, {what} that ended in the calm one's hashes after {bench.kills} SIGKILLs{aimed}",
        "ours": bench.whole, "against": "runs", "theirs": bench.whole, "limit": 1.0, "ratio": 1.0, "unit": "runs",
        "runs": bench.whole,
        "command": f"python tests/bench/kills.py --kills {given.kills} --seed {given.seed}" + " --late" * given.late
        + f" --at {given.at}" * bool(aims),
        "kills": bench.kills, "kills_of_one_process": bench.alone, "kills_by_stage": dict(sorted(bench.hit.items())),
    }  # fmt: skip
    print(json.dumps(row, indent=2))
    path = ROOT / "metrics" / "bench" / "kills.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    write_json(path, [*(each for each in known if each["command"] != row["command"]), row])


if __name__ == "__main__":
    main()
