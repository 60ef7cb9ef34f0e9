"""What S3 alone has: parts, keys, buckets, and a server whose every refusal is explained."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from botocore.awsrequest import AWSPreparedRequest

from stages.publish.location import Keys, Location
from stages.publish.s3 import S3Store
from stages.publish.seaweed import Server
from stages.shared.errors import BudgetError, ConfigurationError, ConflictError, PipelineError, TransientError

KEYS = Keys("key", "secret", "$KEY and $SECRET")


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def content(store: S3Store, key: str) -> bytes | None:
    chunks = store.read(key)
    return None if chunks is None else b"".join(chunks)


def test_a_large_file_goes_up_in_parts(server: Server, location: Location, tmp_path: Path) -> None:
    store = S3Store(location, server.keys, part_bytes=5 << 20)
    path = tmp_path / "large.safetensors"
    path.write_bytes(os.urandom(12 << 20))
    assert store.create("large", path, digest(path.read_bytes()))
    assert not store.create("large", path, digest(path.read_bytes()))
    assert content(store, "large") == path.read_bytes()


def test_entries_are_listed_below_the_prefix_only(store: S3Store, server: Server, location: Location) -> None:
    other = S3Store(replace(location, prefix=location.prefix + "-other"), server.keys)
    for each, key in ((store, "m/2"), (store, "m/1"), (store, "n/1"), (other, "m/9")):
        each.create(key, b"x", digest(b"x"))
    assert [entry.key for entry in store.entries("m/")] == ["m/1", "m/2"]


def test_an_empty_prefix_is_the_bucket_itself(server: Server, location: Location) -> None:
    bare = S3Store(replace(location, prefix=""), server.keys)
    key = location.prefix + "/x"
    bare.create(key, b"x", digest(b"x"))
    assert content(bare, key) == b"x"


@pytest.mark.parametrize(
    "keys", [Keys("nobody", "x", "$KEY and $SECRET"), Keys("admin-key", "wrong", "$KEY and $SECRET")]
)
def test_wrong_keys_are_refused_naming_where_they_came_from(location: Location, keys: Keys) -> None:
    with pytest.raises(ConfigurationError, match=r"refuses the keys from \$KEY and \$SECRET"):
        S3Store(location, keys).check()


def test_keys_that_may_not_write_are_a_clear_error(reader: S3Store) -> None:
    reader.check()
    with pytest.raises(ConfigurationError, match="may not do this"):
        reader.create("x", b"x", digest(b"x"))


def test_keys_never_show_in_a_representation(location: Location) -> None:
    assert "s3cr3t" not in repr(Keys("public", "s3cr3t", "here", "s3cr3t"))


def test_a_missing_bucket_is_named(server: Server, location: Location) -> None:
    with pytest.raises(ConfigurationError, match="no bucket 'elsewhere'"):
        S3Store(replace(location, bucket="elsewhere"), server.keys).check()


@pytest.mark.parametrize("changes", [{"bucket": "Not A Bucket!"}, {"endpoint": "no-url"}])
def test_an_impossible_location_is_a_configuration_error(location: Location, changes: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="publish"):
        S3Store(replace(location, **changes), KEYS).check()


def test_an_endpoint_where_nobody_listens_is_worth_another_try(location: Location, unused_port: int) -> None:
    store = S3Store(replace(location, endpoint=f"http://127.0.0.1:{unused_port}"), KEYS, attempts=1)
    with pytest.raises(TransientError, match="cannot reach"):
        store.check()


@pytest.fixture
def unused_port() -> int:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        return server.server_port


@contextmanager
def misbehaving(respond: Callable[[BaseHTTPRequestHandler], None], attempts: int = 1) -> Iterator[S3Store]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # which lets a client send a body at once; else it waits for a second

        def send_response(self, code: int, message: str | None = None) -> None:
            super().send_response(code, message)
            self.send_header("Connection", "close")

        def do_GET(self) -> None:
            respond(self)

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            respond(self)

        def do_DELETE(self) -> None:
            respond(self)

        def do_HEAD(self) -> None:
            failing(404, "NoSuchKey")(self)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            location = Location(f"http://127.0.0.1:{server.server_port}", "b", "", "us-east-1")
            yield S3Store(location, KEYS, attempts=attempts)
        finally:
            server.shutdown()
            thread.join()


def failing(status: int, code: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def respond(request: BaseHTTPRequestHandler) -> None:
        body = f"<Error><Code>{code}</Code><Message>so it is</Message></Error>".encode()
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)

    return respond


@pytest.mark.parametrize(
    ("status", "code", "kind", "says"),
    [
        (507, "InsufficientStorage", BudgetError, "no room left"),
        (400, "XMinioStorageFull", BudgetError, "no room left"),
        (503, "SlowDown", TransientError, "503 SlowDown"),
        (500, "InternalError", TransientError, "look at its log"),
        (403, "RequestTimeTooSkewed", ConfigurationError, "clock"),
        (400, "ExpiredToken", ConfigurationError, r"refuses the keys from \$KEY and \$SECRET \(ExpiredToken\)"),
        (301, "PermanentRedirect", ConfigurationError, "publish.region"),
        (501, "NotImplemented", ConfigurationError, "501"),
    ],
)
def test_what_a_server_refuses_is_explained(status: int, code: str, kind: type[PipelineError], says: str) -> None:
    with misbehaving(failing(status, code)) as store, pytest.raises(kind, match=says):
        store.check()


def test_a_connection_that_is_cut_in_the_middle_is_worth_another_try() -> None:
    def respond(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "100")
        request.end_headers()
        request.wfile.write(b"only this")

    with misbehaving(respond) as store, pytest.raises(TransientError, match="cannot reach"):
        store.read("x")


def succeed(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("ETag", '"x"')
    request.send_header("Content-Length", "0")
    request.end_headers()


def test_a_server_that_ignores_conditions_is_refused_before_anything_is_published() -> None:
    with (
        misbehaving(succeed) as store,
        pytest.raises(ConfigurationError, match=r"ignores If-None-Match and If-Match.*overwrite each other"),
    ):
        store.probe()


def test_a_server_that_knows_no_conditions_is_refused_with_its_own_words() -> None:
    with (
        misbehaving(failing(501, "NotImplemented")) as store,
        pytest.raises(ConfigurationError, match="try conditional writes: the server answers 501"),
    ):
        store.probe()


def test_a_server_that_refuses_what_holds_is_refused() -> None:
    def respond(request: BaseHTTPRequestHandler) -> None:
        failing(412, "PreconditionFailed")(request) if is_conditional(request) else succeed(request)

    with misbehaving(respond) as store, pytest.raises(ConfigurationError, match="refuses If-Match even where it holds"):
        store.probe()


def in_turn(*answers: Callable[[BaseHTTPRequestHandler], None]) -> Callable[[BaseHTTPRequestHandler], None]:
    left = iter(answers)
    return lambda request: next(left)(request)


CONTESTED = failing(409, "ConcurrentModification")
HELD, FAILED = succeed, failing(412, "PreconditionFailed")


@pytest.mark.parametrize(("decision", "won"), [(HELD, True), (FAILED, False)])
def test_writers_that_meet_ask_again_who_has_won(
    decision: Callable[[BaseHTTPRequestHandler], None], won: bool, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"x")
    for content in (b"x", tmp_path / "file"):
        with misbehaving(in_turn(CONTESTED, CONTESTED, decision), attempts=3) as store:
            assert store.create("key", content, digest(b"x")) is won
    with misbehaving(in_turn(CONTESTED, CONTESTED, decision), attempts=3) as store:
        assert store.swap("key", b"x", '"version"') is won


def test_writers_that_never_stop_meeting_are_told() -> None:
    with (
        misbehaving(in_turn(CONTESTED, CONTESTED), attempts=2) as store,
        pytest.raises(ConflictError, match="somebody else is writing the same object"),
    ):
        store.swap("key", b"x", None)


def listing_uploads_of_the_bucket_only(request: BaseHTTPRequestHandler) -> None:
    """As MinIO does, which takes a prefix for a whole key."""
    asked = parse_qs(urlsplit(request.path).query, keep_blank_values=True)
    upload = "<Upload><Key>{}</Key><UploadId>1</UploadId><Initiated>2020-01-01T00:00:00Z</Initiated></Upload>"
    found = "" if asked.get("prefix") != [""] else upload.format("sha256/x") + upload.format("elsewhere/x")
    body = f"<R><IsTruncated>false</IsTruncated>{'' if 'uploadId' in asked else found}</R>".encode()
    request.send_response(200)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


def test_unfinished_uploads_are_found_where_they_are_listed_by_bucket_only() -> None:
    with misbehaving(listing_uploads_of_the_bucket_only) as store:
        found = store.abandon("sha256/", datetime.now(UTC), dry_run=True)
    assert [stored.key for stored in found] == ["sha256/x"]


def is_conditional(request: BaseHTTPRequestHandler) -> bool:
    return bool({"If-Match", "If-None-Match"} & {*request.headers})


def test_a_server_that_ignores_checksums_is_refused_and_keeps_nothing() -> None:
    removed = []

    def respond(request: BaseHTTPRequestHandler) -> None:
        fails = is_conditional(request) and request.headers["If-Match"] != '"x"'
        if request.command == "DELETE":
            removed.append(request.path)
        failing(412, "PreconditionFailed")(request) if fails else succeed(request)

    with (
        misbehaving(respond) as store,
        pytest.raises(ConfigurationError, match="does not check the SHA-256"),
    ):
        store.probe()
    assert removed == ["/b/checksums"]


def test_nothing_is_written_without_a_condition(store: S3Store, tmp_path: Path) -> None:
    """A bucket may refuse all that is (infra/terraform/policies.tf does), what the probe writes too."""
    written: list[bool] = []

    def note(request: AWSPreparedRequest, **_: object) -> None:
        written.append(bool({"If-Match", "If-None-Match"} & {*request.headers}))

    store._client.meta.events.register("before-send.s3.PutObject", note)
    path = tmp_path / "small.json"
    path.write_bytes(b"{}")
    store.probe()
    assert store.create("small", path, digest(b"{}"))
    assert store.swap("pointer", b"x", None)
    assert len(written) >= 6
    assert all(written)


def test_keys_that_may_not_write_are_found_by_the_probe(reader: S3Store) -> None:
    with pytest.raises(ConfigurationError, match="may not do this"):
        reader.probe()
