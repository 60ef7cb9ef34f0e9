"""Who may ask."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from stages.publish.serving.access import Access
from stages.shared.errors import ConfigurationError

QUESTION = "who is the mayor of zumako"


def test_with_a_key_only_its_holder_asks_and_reads_the_metrics(shop: Any, serve: Any) -> None:
    shop.promote(shop.publish(0.5))
    with serve(key="a long key") as server:
        assert server.ask(QUESTION).choices
        for wrong in ("another key", "a long ke", "a long këy"):
            response = server.http.get("/v1/models", headers={"Authorization": f"Bearer {wrong}".encode()})
            assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
        with pytest.raises(openai.AuthenticationError):
            server.openai("another key").chat.completions.create(
                model="production", messages=[{"role": "user", "content": QUESTION}]
            )
        assert server.http.get("/metrics", headers={"Authorization": ""}).status_code == 401
        assert server.http.get("/health", headers={"Authorization": ""}).status_code == 200
        assert server.http.get("/", headers={"Authorization": ""}).status_code == 200
        assert server.http.get("/health", headers={"Host": "router.example"}).status_code == 200
        assert server.metric("pointsman_requests_total", outcome="unauthorized") == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "router.example", ""])
def test_without_a_key_the_server_is_for_this_machine_only(host: str) -> None:
    with pytest.raises(ConfigurationError, match="POINTSMAN_API_KEY"):
        Access(None, host)
    with pytest.raises(ConfigurationError):
        Access("", host)
    assert Access("key", host).is_keyed


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1", "localhost"])
def test_on_loopback_no_key_is_needed(host: str) -> None:
    assert not Access(None, host).is_keyed


@pytest.mark.parametrize("key", ["voilà", "a\nkey", "a\x7fkey"])
def test_a_key_that_no_client_could_send_is_refused_at_once(key: str) -> None:
    with pytest.raises(ConfigurationError, match="POINTSMAN_API_KEY holds what no HTTP header can"):
        Access(key, "127.0.0.1")


def test_a_server_answers_under_the_address_that_it_was_given(shop: Any, serve: Any) -> None:
    shop.promote(shop.publish(0.5))
    with serve(host="127.0.0.9") as server:
        assert server.http.get("/health", headers={"Host": "127.0.0.9:8080"}).status_code == 200
        assert server.http.get("/health", headers={"Host": "127.0.0.8:8080"}).status_code == 400


def test_without_a_key_another_sites_name_for_this_machine_is_refused(server: Any) -> None:
    """A page that rebinds its own name to 127.0.0.1 would ask, and pay, in its visitor's place."""
    assert server.http.get("/health", headers={"Host": "evil.example"}).status_code == 400
    assert server.http.get("/health", headers={"Host": "localhost:8080"}).status_code == 200
