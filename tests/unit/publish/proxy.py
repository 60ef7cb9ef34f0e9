"""A loopback proxy that is slow, or breaks connections, between a client and a real server."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

CHUNK = 64 << 10


@dataclass
class Proxy:
    """Forwards bytes to a port of this machine, and counts them."""

    target: int
    url: str = ""
    sent: int = 0
    """Bytes that clients sent."""
    delay_s: float = 0.0
    """Before each 64 KiB that is forwarded."""
    cut_up: int | None = None
    """The connection breaks, once, when clients have sent this many bytes more."""
    cut_down: int | None = None
    """The connection breaks, once, when the server has sent this many bytes more."""
    silent: bool = False
    """Nothing is forwarded any more."""
    silent_up: int | None = None
    """From when clients have sent this many bytes, in all."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def serve(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
                for source, sink, upwards in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._pump, args=(source, sink, upwards), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, upwards: bool) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK):
                time.sleep(self.delay_s)
                if self._breaks(len(data), upwards):
                    break
                while self.silent:
                    time.sleep(0.02)
                sink.sendall(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _breaks(self, count: int, upwards: bool) -> bool:
        name = "cut_up" if upwards else "cut_down"
        with self.lock:
            self.sent += count if upwards else 0
            self.silent |= self.silent_up is not None and self.sent > self.silent_up
            left = getattr(self, name)
            if left is None:
                return False
            setattr(self, name, left - count if left > count else None)
            return bool(left <= count)


@contextmanager
def proxied(url: str) -> Iterator[Proxy]:
    """A proxy to the server at `url`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = Proxy(urlsplit(url).port or 80, f"http://127.0.0.1:{listener.getsockname()[1]}")
        threading.Thread(target=proxy.serve, args=(listener,), daemon=True).start()
        yield proxy
        listener.shutdown(socket.SHUT_RDWR)
