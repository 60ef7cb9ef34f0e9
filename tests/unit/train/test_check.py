"""What `pointsman doctor` says of a Ray cluster that training is to join."""

from __future__ import annotations

import socket

from stages.train.check import _cluster


def test_a_cluster_that_answers_is_told_apart_from_one_that_does_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        found = _cluster(address)
        assert (found.state, "the environment of `ray start`" in found.found) == ("note", True)
    found = _cluster(address)
    assert found.state == "wrong"
    assert "ray start --head" in found.todo


def test_an_address_that_ray_finds_itself_is_not_looked_at() -> None:
    assert _cluster("auto").state == "note"
