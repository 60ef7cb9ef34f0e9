"""The page at `/`: ask, and watch an episode unfold. Nothing in it comes from elsewhere, and no other script runs."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from stages.shared.files import read_text

FILE = Path(__file__).with_name("page.html")
INLINE = re.compile(r"<(style|script)>(.*?)</\1>", re.DOTALL)


async def page(request: Request) -> Response:
    """The page, with a policy that lets exactly its own style and script run."""
    text, policy = _page()
    headers = {
        "Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }  # fmt: skip
    return HTMLResponse(text, headers=headers)


@cache
def _page() -> tuple[str, str]:
    text = read_text(FILE)
    own = {kind: _hash(content) for kind, content in INLINE.findall(text)}
    rules = {
        "default-src": "'none'", "style-src": own["style"], "script-src": own["script"], "connect-src": "'self'",
        "img-src": "data:", "base-uri": "'none'", "form-action": "'none'", "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
    }  # fmt: skip
    return text, "; ".join(f"{name} {value}" for name, value in rules.items())


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
