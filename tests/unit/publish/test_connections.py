"""Large files over connections that are slow, cut or silent, and writers that are killed, with a real S3 server."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stages.publish.garbage import collect
from stages.publish.location import Location
from stages.publish.s3 import S3Store
from stages.publish.seaweed import Server
from stages.shared.errors import TransientError
from tests.unit.publish.proxy import Proxy, proxied

ROOT = Path(__file__).resolve().parents[3]
KEY = "blobs/sha256/large"
PART = 5 << 20
SIZE = 21 << 20
"""Four parts that go up at once, and a short one after the first of them."""
WRITER = """
import sys
from pathlib import Path
from stages.publish.location import Keys, Location
from stages.publish.s3 import S3Store
url, bucket, prefix, access, secret, path, digest = sys.argv[1:]
store = S3Store(Location(url, bucket, prefix, "us-east-1"), Keys(access, secret, "the test"), part_bytes=5 << 20)
store.create("blobs/sha256/large", Path(path), digest)
"""


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with proxied(server.url) as running:
        yield running


@pytest.fixture
def far(proxy: Proxy, server: Server, location: Location) -> S3Store:
    """The store, seen through the proxy."""
    return S3Store(replace(location, endpoint=proxy.url), server.keys, part_bytes=PART, silence_s=5)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.safetensors"
    path.write_bytes(os.urandom(SIZE))
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def content(store: S3Store, key: str) -> bytes:
    return b"".join(store.read(key) or ())


def unfinished(store: S3Store) -> list[int]:
    """Bytes of each upload that was begun and not finished."""
    return [each.bytes for each in store.abandon("", datetime.now(UTC) + timedelta(days=1), dry_run=True)]


def break_off(proxy: Proxy, server: Server, location: Location, large: Path) -> None:
    """A writer without a second attempt, whose connection is cut; some parts are there."""
    proxy.cut_up = 8 << 20
    writer = S3Store(replace(location, endpoint=proxy.url), server.keys, part_bytes=PART, attempts=1)
    with pytest.raises(TransientError, match="cannot reach"):
        writer.create(KEY, large, digest(large))


def test_a_writer_that_was_killed_leaves_nothing_to_see_and_the_next_one_goes_on(
    proxy: Proxy, far: S3Store, server: Server, location: Location, large: Path, store: S3Store,
    eventually: Callable[..., bool],
) -> None:  # fmt: skip
    proxy.silent_up = SIZE - (PART >> 3)
    keys = (server.keys.access, server.keys.secret)
    arguments = (proxy.url, location.bucket, location.prefix, *keys, str(large), digest(large))
    writer = subprocess.Popen([sys.executable, "-c", WRITER, *arguments], cwd=ROOT)
    assert eventually(lambda: sum(unfinished(store)) >= 2 * PART)
    writer.send_signal(signal.SIGKILL)
    assert writer.wait() == -signal.SIGKILL
    proxy.silent_up, proxy.silent = None, False
    assert (store.entries(""), store.read(KEY)) == ([], None)
    (there,), before = unfinished(store), proxy.sent
    assert far.create(KEY, large, digest(large))
    assert proxy.sent - before < SIZE - there + PART
    assert content(store, KEY) == large.read_bytes()
    assert unfinished(store) == []


def test_parts_of_another_content_are_sent_again(
    proxy: Proxy, far: S3Store, server: Server, location: Location, large: Path, store: S3Store
) -> None:
    break_off(proxy, server, location, large)
    large.write_bytes(os.urandom(SIZE))
    assert far.create(KEY, large, digest(large))
    assert content(store, KEY) == large.read_bytes()


def test_what_was_never_finished_is_collected_by_age(
    proxy: Proxy, server: Server, location: Location, large: Path, store: S3Store
) -> None:
    break_off(proxy, server, location, large)
    assert store.abandon("elsewhere/", datetime.now(UTC) + timedelta(days=1)) == []
    assert collect(store, timedelta(days=1)) == []
    for dry_run in (True, False):
        assert [each.key for each in collect(store, timedelta(seconds=-60), dry_run=dry_run)] == [KEY]
    assert unfinished(store) == []


def test_writers_of_the_same_file_at_once_do_not_harm_each_other(
    server: Server, location: Location, large: Path, store: S3Store
) -> None:
    writers = [S3Store(location, server.keys, part_bytes=PART) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda writer: writer.create(KEY, large, digest(large)), writers))
    assert any(made)
    assert content(store, KEY) == large.read_bytes()


def test_an_upload_outlives_a_cut_connection(proxy: Proxy, far: S3Store, large: Path) -> None:
    proxy.cut_up = 7 << 20
    assert far.create(KEY, large, digest(large))
    assert proxy.cut_up is None
    assert content(far, KEY) == large.read_bytes()


def test_a_download_outlives_a_cut_connection(proxy: Proxy, far: S3Store, store: S3Store, large: Path) -> None:
    store.create(KEY, large, digest(large))
    proxy.cut_down = 10 << 20
    assert content(far, KEY) == large.read_bytes()
    assert proxy.cut_down is None


def test_a_slow_connection_is_waited_for(proxy: Proxy, far: S3Store) -> None:
    proxy.delay_s = 0.3
    assert far.create("small", b"small", hashlib.sha256(b"small").hexdigest())
    assert content(far, "small") == b"small"


def test_a_server_that_falls_silent_is_given_up_and_worth_another_try(
    proxy: Proxy, server: Server, location: Location
) -> None:
    impatient = S3Store(replace(location, endpoint=proxy.url), server.keys, attempts=1, silence_s=0.3)
    proxy.silent = True
    for use in (impatient.check, lambda: impatient.create("x", b"x", hashlib.sha256(b"x").hexdigest())):
        with pytest.raises(TransientError, match="cannot reach"):
            use()
    proxy.silent = False
    assert impatient.read("x") is None
