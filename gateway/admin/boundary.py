"""Who may speak to the admin port: programs on this machine, never a web page through a browser.

A page could make a browser call a loopback address under a name of its own (DNS rebinding), or
send a form there; so the Host must be an address or `localhost`, and what changes anything must
not come from another origin. Probes and scrapers may use any name for what tells no secrets.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from chassis.errors import Forbidden
from chassis.http.problems import problem

_SAFE = ("GET", "HEAD", "OPTIONS")
_ANY_NAME = ("/live", "/ready", "/version", "/metrics")


class Boundary:
    """ASGI in, ASGI out: refuses with 403 what a browser was made to send."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        reason = refusal(scope) if scope["type"] == "http" else None
        if reason is None:
            await self._app(scope, receive, send)
            return
        status, headers, body = problem(Forbidden(reason))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def refusal(scope: Any) -> str | None:
    """Why a request is refused, or None."""
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    host = headers.get(b"host", "")
    if scope["path"] not in _ANY_NAME and not is_address(host):
        return "ask the admin port by its address or as localhost"
    origin = headers.get(b"origin")
    if scope["method"] not in _SAFE and origin is not None and origin != f"http://{host}":
        return "a page of another origin may not change anything here"
    return None


def is_address(host: str) -> bool:
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    if name == "localhost":
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
