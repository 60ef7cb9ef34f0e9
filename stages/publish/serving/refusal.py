"""What a client is told when it does not get an answer, in OpenAI's form."""

from __future__ import annotations

import math
from typing import Any, Literal

from starlette.responses import JSONResponse

Reason = Literal[
    "invalid", "unauthorized", "rate-limited", "over-capacity", "over-budget", "unavailable", "infrastructure", "error"
]
KINDS = {401: "authentication_error", 429: "rate_limit_error"}


class Refusal(Exception):
    """A request that is not answered: HTTP status, message, and a reason to count it under."""

    def __init__(
        self,
        status: int,
        reason: Reason,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.code = code
        self.param = param
        self.retry_after_s = retry_after_s

    def body(self) -> dict[str, Any]:
        """The error object, as every OpenAI client reads it."""
        other = "server_error" if self.status >= 500 else "invalid_request_error"
        kind = "insufficient_quota" if self.reason == "over-budget" else KINDS.get(self.status, other)
        fault = {"message": str(self), "type": kind, "param": self.param, "code": self.code}
        return {"error": fault}

    def response(self) -> JSONResponse:
        """The HTTP response."""
        headers = {}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after_s)))
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.body(), status_code=self.status, headers=headers)


def invalid(message: str, param: str | None = None, code: str | None = None) -> Refusal:
    """A request that cannot be meant."""
    return Refusal(400, "invalid", message, code=code, param=param)
