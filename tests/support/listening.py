"""What every peer that tests start in their own loop has in common."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class Listening:
    """Listens on a free loopback port while entered."""

    host = "127.0.0.1"
    port = 0
    _server: asyncio.Server | None = None

    async def _listen(self) -> asyncio.Server:
        """Listens on `host`, port 0."""
        raise NotImplementedError

    async def _hang_up(self, failure: BaseException | None) -> None:
        """Ends what was accepted; nobody else can be. `failure` is the test's own."""

    async def __aenter__(self) -> Self:
        self._server = await self._listen()
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        for _ in range(5):  # asyncio loses an accepted socket when its server closes meanwhile
            await asyncio.sleep(0)
        self._server.close()
        await self._hang_up(failure)
