"""What every test may rely on."""

import os
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with a slow test come first: a worker that began one at the end would go on while the others have none."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def _environment_as_found() -> Iterator[None]:
    """Libraries are told to stay offline through the environment; the next test does not inherit that."""
    found = dict(os.environ)
    yield
    for name in set(os.environ) - set(found):
        del os.environ[name]
    os.environ.update(found)


def two_ports() -> int:
    """The first of two free ports in a row."""
    while True:
        with socket.socket() as probe, socket.socket() as after:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
            with suppress(OSError, OverflowError):
                after.bind(("127.0.0.1", port + 1))
                return port
