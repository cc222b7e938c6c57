"""Where accepted events go: the durable spool in front of `playback.beacon`."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.clock import Clock
from chassis.contracts.events import PLAYBACK_BEACON, PlayerEvent
from chassis.events import Spool
from chassis.identity import Passport
from microservices.beacon.model import Coalescer, envelope_of


class BeaconStore:
    """Keeps events on disk before anybody is told that they were accepted."""

    def __init__(self, spool: Spool, clock: Clock, source: str) -> None:
        self._spool = spool
        self._clock = clock
        self._source = source
        self._coalescer = Coalescer()

    async def keep(
        self, events: Sequence[PlayerEvent], passport: Passport, traceparent: str
    ) -> int:
        """Durable on return; how many heartbeats were left out because the log is away.

        `Shed` when the spool is full, `StoreUnavailable` when the disk refuses: nothing was kept.
        """
        kept = events
        if self._spool.fault is not None:
            kept = self._coalescer.thin(events, self._clock.monotonic())
        envelopes = [envelope_of(event, passport, self._source, traceparent) for event in kept]
        await self._spool.append(PLAYBACK_BEACON, envelopes)
        return len(events) - len(kept)
