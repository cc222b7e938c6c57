"""What a Play tells the world: `play.started`, spooled, never in the way of the answer."""

from __future__ import annotations

from typing import Protocol

from chassis.clock import Clock
from chassis.contracts.events import PLAY_LIFECYCLE, Envelope, PlayStarted
from play_api.play import Play


class Outlet(Protocol):
    """Takes events without waiting; `chassis.events.Spool` is one."""

    def offer(self, topic: str, envelope: Envelope) -> object: ...


class PlayEvents:
    def __init__(self, outlet: Outlet, clock: Clock, source: str) -> None:
        self._outlet = outlet
        self._clock = clock
        self._source = source

    def started(self, play: Play, traceparent: str) -> None:
        """The Play was answered; its id is `<session>:0`, so a repeated answer counts once."""
        now = self._clock.now()
        self._outlet.offer(PLAY_LIFECYCLE, envelope_of(play, now, self._source, traceparent))


def envelope_of(play: Play, now: float, source: str, traceparent: str) -> Envelope:
    lease = play.held
    data = PlayStarted(
        play_id=play.play_id,
        session_id=lease.session_id,
        account_id=play.passport.account_id,
        profile_id=play.request.profile_id,
        title_id=play.title.title_id,
        episode_id=play.title.episode_id,
        duration_ms=play.title.duration_ms,
        at_ms=int(now * 1000),
        country=play.entitlement.country,
        device_type=play.request.device.type,
        device_id=play.request.device.id,
        position_ms=play.resume().position_ms,
        cells=play.allocation.cells,
        degraded=tuple(one.part for one in play.degraded),
    )
    return Envelope.of(
        data,
        event_id=f"{lease.session_id}:0",
        source=source,
        kind=PlayStarted.TYPE,
        at_ms=data.at_ms,
        partitionkey=play.request.profile_id,
        subject=play.title.title_id,
        traceparent=traceparent,
    )
