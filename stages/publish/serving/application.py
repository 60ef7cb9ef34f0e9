"""The routes of the server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stages.publish.serving.access import Access
from stages.publish.serving.completions import Completions
from stages.publish.serving.conversation import House
from stages.publish.serving.page import page
from stages.publish.serving.refusal import Refusal


def application(house: House, access: Access) -> Starlette:
    """The ASGI application. Without a key it answers to the names of this machine only."""
    routes = [
        Route("/v1/chat/completions", Completions(house, access), methods=["POST"]),
        Route("/v1/models", _models(house, access)),
        Route("/health", _health(house)),
        Route("/metrics", _metrics(house, access)),
        Route("/", page),
    ]
    guard = [] if access.is_keyed else [Middleware(TrustedHostMiddleware, allowed_hosts=list(access.names))]
    handlers: dict[Any, Any] = {Refusal: _refused, HTTPException: _unknown}
    return Starlette(routes=routes, middleware=guard, exception_handlers=handlers)


def _models(house: House, access: Access) -> Callable[[Request], Awaitable[Response]]:
    async def models(request: Request) -> Response:
        """What `model` may be: the channel, whatever it serves, or the release that it serves now."""
        access.check(request)
        with house.follower.lease() as served:
            created = int(datetime.fromisoformat(served.event.time).timestamp())
            names = (house.follower.channel, served.digest)
        data = [{"id": name, "object": "model", "created": created, "owned_by": "pointsman"} for name in names]
        return JSONResponse({"object": "list", "data": data})

    return models


def _health(house: House) -> Callable[[Request], Awaitable[Response]]:
    async def health(request: Request) -> Response:
        """Whether questions can be answered, and by which release."""
        served = house.follower.current
        if served is None:
            return JSONResponse({"status": "loading", "channel": house.follower.channel}, status_code=503)
        known = {
            "status": "ok", "channel": house.follower.channel, "release": served.digest,
            "sequence": served.event.sequence, "synthetic": served.synthetic,
        }  # fmt: skip
        return JSONResponse(known)

    return health


def _metrics(house: House, access: Access) -> Callable[[Request], Awaitable[Response]]:
    async def metrics(request: Request) -> Response:
        """What was counted, for Prometheus."""
        access.check(request)
        return Response(house.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return metrics


async def _refused(request: Request, refusal: Refusal) -> Response:
    return refusal.response()


async def _unknown(request: Request, error: HTTPException) -> Response:
    refusal = Refusal(error.status_code, "invalid", f"{request.method} {request.url.path}: {error.detail}")
    return refusal.response()
