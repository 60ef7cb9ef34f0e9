"""Runs the embedded S3 server for as long as anybody uses it, whatever becomes of the users.

A process of its own, of the standard library alone, which `stages.publish.seaweed` starts. Every user holds a shared
lock on `users.lock`; the keeper waits for the exclusive one, which the kernel grants when the last user has left or was
killed, and then stops the server. The server in turn is told by the kernel when the keeper dies.
"""

from __future__ import annotations

import ctypes
import fcntl
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

READY_WITHIN_S = 20.0
STOPPED_WITHIN_S = 3.0
"""It took 1.1 s, or, two times of eight, had not ended after 10. Then it is killed, which data outlive (a test)."""
TRIES = 3
LOOPBACK = "127.0.0.1"
LOG_LIMIT = 4 << 20
LOG_END = 64 << 10
ENDPOINT = "endpoint.json"
SERVICES = ("master", "volume", "filer", "s3", "admin")
SOCKETS = Path("/tmp")
"""Where the server puts its sockets, named by port, and leaves them behind."""
PR_SET_PDEATHSIG = 1


class CannotRunError(Exception):
    """The server did not come up; the message says why."""


def main(binary: str, folder: Path, log: Path) -> int:
    """Start the server, say in `endpoint.json` where it is ({"url"} or {"error"}), and stop it when no user is left."""
    with ExitStack() as stack:
        users = stack.enter_context((folder / "users.lock").open("a"))
        alive = stack.enter_context((folder / "keeper.lock").open("a"))
        fcntl.flock(alive, fcntl.LOCK_EX)
        try:
            server, ports = _start(binary, folder, log)
        except CannotRunError as error:
            _tell(folder, {"error": str(error)})
            return 1
        try:
            _tell(folder, {"url": f"http://{LOOPBACK}:{ports['s3.port']}"})
            fcntl.flock(users, fcntl.LOCK_EX)
        finally:
            _stop(server, ports)
    return 0


def _start(binary: str, folder: Path, log: Path) -> tuple[subprocess.Popen[bytes], dict[str, int]]:
    if log.exists() and log.stat().st_size > LOG_LIMIT:
        log.unlink()
    for _ in range(TRIES):
        ports = _free_ports()
        server = _spawn(binary, folder, log, ports)
        if _is_ready(server, ports["s3.port"]):
            return server, ports
        _stop(server, ports)
    raise CannotRunError(f"the S3 server does not start; see {log}:\n{_tail(log)}")


def _free_ports() -> dict[str, int]:
    names = [f"{service}.{kind}" for service in SERVICES for kind in ("port", "port.grpc")]
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in names]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return {name: each.getsockname()[1] for name, each in zip(names, sockets, strict=True)}


def _spawn(binary: str, folder: Path, log: Path, ports: Mapping[str, int]) -> subprocess.Popen[bytes]:
    data = folder / "data"
    data.mkdir(exist_ok=True)
    for consensus in data.glob("m[0-9]*"):
        shutil.rmtree(consensus)
    options: dict[str, object] = {"dir": data, "s3.config": folder / "s3.json", "ip": LOOPBACK, "ip.bind": LOOPBACK}
    options |= {"master.telemetry": "false", "admin.ui": "false", "webdav": "false"}
    options |= {"s3.port.iceberg": 0, "s3.port.lance": 0, "volume.preStopSeconds": 0, **ports}
    command = [binary, "-logtostderr=true", "mini", *(f"-{name}={value}" for name, value in options.items())]
    try:
        with log.open("ab") as out:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=data, env=_environment(folder),
                preexec_fn=_die_with_parent,
            )  # fmt: skip
    except OSError as error:
        raise CannotRunError(f"{binary} cannot run here: {error}") from error


def _environment(folder: Path) -> dict[str, str]:
    """Without anything that would set the server up otherwise: its variables, the user's keys, the user's own files."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "S3_", "WEED_"))}
    return kept | {"HOME": str(folder)}


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _is_ready(server: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + READY_WITHIN_S
    while server.poll() is None and time.monotonic() < deadline:
        connection = http.client.HTTPConnection(LOOPBACK, port, timeout=1)
        with suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/healthz")
            if connection.getresponse().status == 200:
                return True
        connection.close()
        time.sleep(0.03)
    return False


def _stop(server: subprocess.Popen[bytes], ports: Mapping[str, int]) -> None:
    server.terminate()
    try:
        server.wait(STOPPED_WITHIN_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    for port in ports.values():
        for left in SOCKETS.glob(f"seaweedfs-*-{port}.sock"):
            left.unlink(missing_ok=True)


def _tail(log: Path) -> str:
    with log.open("rb") as handle:
        handle.seek(max(log.stat().st_size - LOG_END, 0))
        return "\n".join(handle.read(LOG_END).decode(errors="replace").splitlines()[-5:])


def _tell(folder: Path, message: Mapping[str, str]) -> None:
    part = folder / f".{ENDPOINT}.part"
    part.write_text(json.dumps(message), encoding="utf-8")
    part.replace(folder / ENDPOINT)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
