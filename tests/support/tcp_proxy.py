"""A TCP proxy that makes a real server slow, silent or unreachable.

```python
async with TcpProxy("127.0.0.1", port) as proxy:
    ...                        # talk to proxy.host, proxy.port
    proxy.delay_s = 0.3        # every piece, in both directions, from now on
    proxy.hold()               # nothing more gets through, connections stay open
    proxy.resume()             # what was held back goes on
    proxy.cut()                # resets every connection
    proxy.refuse()             # and every new one, until `accept()`
```
"""

from __future__ import annotations

import asyncio
import contextlib

from tests.support.listening import Listening

_PIECE = 65536


class TcpProxy(Listening):
    """The proxy itself. Belongs to one event loop."""

    def __init__(self, host: str, port: int, *, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s
        self.accepted = 0
        self._target = (host, port)
        self._open = asyncio.Event()
        self._open.set()
        self._refusing = False
        self._links: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def connections(self) -> int:
        """How many are open through it now."""
        return len(self._writers) // 2

    def hold(self) -> None:
        self._open.clear()

    def resume(self) -> None:
        self._open.set()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def refuse(self) -> None:
        self._refusing = True
        self.cut()

    def accept(self) -> None:
        self._refusing = False

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._accept, self.host, 0)

    async def _hang_up(self, failure: BaseException | None) -> None:
        self.cut()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    async def _accept(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        link = asyncio.current_task()
        assert link is not None
        self._links.add(link)
        try:
            await self._carry(near, back)
        except asyncio.CancelledError:
            pass  # the proxy closes; asyncio.streams would report it
        finally:
            self._links.discard(link)
            back.transport.abort()

    async def _carry(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self._refusing:
            return
        try:
            far, on = await asyncio.open_connection(*self._target)
        except OSError:
            return
        self._writers |= {back, on}
        try:
            await asyncio.gather(self._pump(near, on), self._pump(far, back))
        finally:
            self._writers -= {back, on}
            on.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction, until its end: pieces keep their order, each comes `delay_s` late."""
        with contextlib.suppress(OSError):  # either side may have ended it
            while piece := await reader.read(_PIECE):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                await self._open.wait()
                writer.write(piece)
                await writer.drain()
            writer.write_eof()
