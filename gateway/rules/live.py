"""The one pointer to the snapshot that serves, and the one path by which a document takes over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from chassis.clock import Clock
from gateway.rules.match import Snapshot


class LiveRules:
    """Follows a rules file: `snapshot` is always usable once `start` returned.

    `await start()` loads the file (or the last good version kept under `state`, saying every fault
    of the file) and begins to follow it; raises `ConfigurationFault` when there is neither.
    `subscribe(callback)` hears each new snapshot, on the loop, right after the swap.
    """

    snapshot: Snapshot

    def __init__(self, file: Path, state: Path, clock: Clock) -> None:
        raise NotImplementedError

    async def start(self) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    def subscribe(self, callback: Callable[[Snapshot], None]) -> None:
        raise NotImplementedError
