"""One HTTP request of a probe."""

from __future__ import annotations

from collections.abc import Mapping

import httpx

from deploy.servers.server import NotReady
from deploy.servers.wire import PATIENCE_S


async def ask(
    url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None
) -> httpx.Response:
    """The answer, whatever its status; `NotReady` when there is none."""
    transport = httpx.AsyncHTTPTransport(verify=False)
    async with httpx.AsyncClient(transport=transport, timeout=PATIENCE_S) as http:
        try:
            return await http.request(method, url, headers=dict(headers or {}))
        except httpx.TransportError as fault:
            raise NotReady(str(fault) or type(fault).__name__) from None
