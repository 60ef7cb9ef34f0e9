"""Where verl's clients find the rollout server: a lookup that loads nothing.

verl's own balancer is a process that imports all of verl and torch, some ten seconds of a core, to choose among one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

SETTINGS = Path(__file__).with_suffix(".yaml")
"""Names the class to verl (`rollout.router_config_path`)."""


class OneServer:
    """What verl asks of a router (`verl.workers.rollout.router.Router`), where there is one server."""

    def __init__(self, servers: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        ((self._name, self._server),) = servers.items()

    def require_acquire_fields(self) -> list[str]:
        """Nothing of a request matters."""
        return []

    def require_release_fields(self) -> list[str]:
        """Nothing of a request matters."""
        return []

    def acquire_server(self, request_id: str) -> tuple[str, Any]:
        """Its name and its handle."""
        return self._name, self._server

    def release_server(self, server_id: str, request_id: str | None = None) -> None:
        """Nobody counts."""

    def clear_sticky_cache(self) -> dict[str, Any]:
        """Nothing sticks."""
        return {"cleared_entries": 0, "server_loads": {}}
