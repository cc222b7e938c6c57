"""What a player may tell, and what is left out while the log is away. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import msgspec

from chassis.contracts.events import Envelope, PlayerEvent
from chassis.contracts.wire import NOT_DECODED, Wire
from chassis.identity import Passport

BATCH_LIMIT = 500
TEXT_LIMIT = 128
SEQ_LIMIT = 1 << 31
LONGEST_MS = 48 * 3600 * 1000
OLDEST_MS = 7 * 24 * 3600 * 1000
AHEAD_MS = 5 * 60 * 1000
OVERRUN_MS = 10_000
CMCD_LIMIT = 32
RATING = (0.0, 10.0)
SPARSE_S = 30.0
SESSIONS_KEPT = 50_000


class RawBatch(Wire, frozen=True):
    """`POST /v1/events` before its events are looked at, so that one bad one spoils no other."""

    events: tuple[msgspec.Raw, ...]


_decoder = msgspec.json.Decoder(PlayerEvent)


def parse(raw: msgspec.Raw) -> PlayerEvent | str:
    """The event, or why it is none."""
    try:
        return _decoder.decode(raw)
    except NOT_DECODED as fault:
        return f"not a player event: {fault}"


def fault_of(event: PlayerEvent, profile_id: str, now_ms: int) -> str | None:
    """Why this event cannot be accepted from a player of this profile; None when it can."""
    if event.profile_id != profile_id:
        return "profile_id is not the token's: ask for a token for this profile"
    return _fault_of_names(event) or _fault_of_times(event, now_ms) or _fault_of_values(event)


def _fault_of_names(event: PlayerEvent) -> str | None:
    for name in ("session_id", "title_id"):
        value: str = getattr(event, name)
        if not 0 < len(value) <= TEXT_LIMIT or not value.isprintable():
            return f"{name} must be 1 to {TEXT_LIMIT} printable characters"
    for name in ("play_id", "device_id", "device_type", "country", "episode_id"):
        if len(getattr(event, name) or "") > TEXT_LIMIT:
            return f"{name} is longer than {TEXT_LIMIT} characters"
    if len(event.cmcd) > CMCD_LIMIT:
        return f"cmcd has more than {CMCD_LIMIT} keys"
    if any(len(key) + len(value) > TEXT_LIMIT for key, value in event.cmcd.items()):
        return f"a cmcd key and its value are longer than {TEXT_LIMIT} characters"
    return None


def _fault_of_times(event: PlayerEvent, now_ms: int) -> str | None:
    if not 1 <= event.seq < SEQ_LIMIT:
        return f"seq must be from 1 to {SEQ_LIMIT - 1}"
    if event.at_ms > now_ms + AHEAD_MS:
        return "at_ms lies in the future: set the device's clock"
    if event.at_ms < now_ms - OLDEST_MS:
        return "at_ms is more than seven days ago"
    if event.session_started_ms and not (
        now_ms - 2 * OLDEST_MS <= event.session_started_ms <= now_ms + AHEAD_MS
    ):
        return "session_started_ms is not near at_ms"
    return None


def _fault_of_values(event: PlayerEvent) -> str | None:
    if not 0 < event.duration_ms <= LONGEST_MS:
        return f"duration_ms must be from 1 to {LONGEST_MS}"
    if not 0 <= event.position_ms <= event.duration_ms + OVERRUN_MS:
        return "position_ms lies outside the title"
    if not 0 <= event.rebuffer_ms <= LONGEST_MS or not 0 <= event.bitrate_kbps <= 1_000_000:
        return "rebuffer_ms or bitrate_kbps is out of bounds"
    if event.kind == "rating" and (
        event.value is None or not RATING[0] <= event.value <= RATING[1]
    ):
        return f"a rating needs a value from {RATING[0]:.0f} to {RATING[1]:.0f}"
    return None


def envelope_of(event: PlayerEvent, passport: Passport, source: str, traceparent: str) -> Envelope:
    """The event as it is told. Country and device are the passport's, whatever the player says."""
    told = msgspec.structs.replace(
        event,
        country=passport.country or event.country,
        device_id=passport.device_id or event.device_id,
        position_ms=min(event.position_ms, event.duration_ms),
    )
    return Envelope.of(
        told,
        event_id=told.id,
        source=source,
        kind=told.type,
        at_ms=told.at_ms,
        partitionkey=told.profile_id,
        subject=told.title_id,
        traceparent=traceparent,
    )


class Coalescer:
    """While the log is away, heartbeats thin out: the last of a batch, one a session in 30 s.

    Everything else a player tells is kept, so where a session paused or stopped is never lost.
    """

    def __init__(self) -> None:
        self._kept_at: OrderedDict[str, float] = OrderedDict()

    def thin(self, events: Sequence[PlayerEvent], now: float) -> list[PlayerEvent]:
        last = {event.session_id: at for at, event in enumerate(events)}
        return [
            event
            for at, event in enumerate(events)
            if event.kind != "heartbeat"
            or (last[event.session_id] == at and self._due(event.session_id, now))
        ]

    def _due(self, session_id: str, now: float) -> bool:
        if now - self._kept_at.get(session_id, -SPARSE_S) < SPARSE_S:
            return False
        self._kept_at[session_id] = now
        self._kept_at.move_to_end(session_id)
        if len(self._kept_at) > SESSIONS_KEPT:
            self._kept_at.popitem(last=False)
        return True
