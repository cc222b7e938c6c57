"""Follows one file: says its bytes whenever they changed and have come to rest.

Polling a file's identity costs microseconds and works on every filesystem. A burst of writes, or
a file written in pieces, is read once, after it has been still for `SETTLE_S`. Only a plain file is
read, and no more of it than `limit`: a pipe or a device in its place may never end.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

from chassis.clock import Clock

POLL_S = 0.1
SETTLE_S = 0.04
LIMIT = 64 << 20
Signature = tuple[int, int, int] | None


class FileWatch:
    """`run` calls `changed` with the file's bytes, one change at a time, until it is cancelled."""

    def __init__(
        self,
        file: Path,
        clock: Clock,
        changed: Callable[[bytes], Awaitable[None]],
        *,
        limit: int = LIMIT,
    ) -> None:
        self._file = file
        self._clock = clock
        self._changed = changed
        self._limit = limit
        self._seen: Signature = None

    def read(self) -> bytes:
        """The bytes now, up to the limit and one more that tells of a longer file; what `run` sees
        of them later is no change. Raises OSError."""
        self._seen = self._signature()
        descriptor = os.open(self._file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as opened:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "it is not a plain file")
            return opened.read(self._limit + 1)

    async def run(self) -> None:
        while True:
            await self._clock.sleep(POLL_S)
            if self._signature() != self._seen:
                await self._settle()
                await self._tell()

    async def _settle(self) -> None:
        previous = self._signature()
        while True:
            await self._clock.sleep(SETTLE_S)
            current = self._signature()
            if current == previous:
                return
            previous = current

    async def _tell(self) -> None:
        """A file that is away is no change: the last good rules serve on."""
        try:
            text = await asyncio.to_thread(self.read)
        except OSError:
            return
        await self._changed(text)

    def _signature(self) -> Signature:
        try:
            status = self._file.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino, status.st_size
