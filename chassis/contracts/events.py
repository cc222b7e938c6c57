"""Events: the CloudEvents 1.0 envelope and the data of each event type.

An event's id is `<session>:<seq>`; a version is part of its type name. New fields need defaults.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import ClassVar, Literal

import msgspec

from chassis.contracts.wire import Wire

PLAY_LIFECYCLE = "play.lifecycle"
PLAYBACK_BEACON = "playback.beacon"
SESSION_LEASE = "session.lease"
TOPICS = (PLAY_LIFECYCLE, PLAYBACK_BEACON, SESSION_LEASE)

CONTENT_TYPE = "application/cloudevents+json"

_encode = msgspec.json.Encoder().encode


class Envelope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A fact and its metadata, structured-mode CloudEvents JSON. `time` is RFC 3339, UTC."""

    id: str
    source: str
    type: str
    time: str
    partitionkey: str
    data: msgspec.Raw
    subject: str | None = None
    traceparent: str | None = None
    specversion: Literal["1.0"] = "1.0"
    datacontenttype: str = "application/json"

    def __post_init__(self) -> None:
        if not self.id or not self.partitionkey:
            raise ValueError("an event needs an id and a partitionkey")

    @classmethod
    def of(
        cls,
        data: Wire,
        *,
        event_id: str,
        source: str,
        kind: str,
        at_ms: int,
        partitionkey: str,
        subject: str,
        traceparent: str | None = None,
    ) -> Envelope:
        """`data` as a fact of `at_ms`, UNIX milliseconds."""
        return cls(
            id=event_id,
            source=source,
            type=kind,
            time=rfc3339(at_ms),
            partitionkey=partitionkey,
            subject=subject,
            traceparent=traceparent,
            data=msgspec.Raw(_encode(data)),
        )


def rfc3339(at_ms: int) -> str:
    """UNIX milliseconds as an envelope's `time`."""
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class PlayStarted(Wire, frozen=True, omit_defaults=True, gc=False):
    """`play.started.v1` on `play.lifecycle`: a Play was answered."""

    TYPE: ClassVar[str] = "play.started.v1"

    play_id: str
    session_id: str
    account_id: str
    profile_id: str
    title_id: str
    duration_ms: int
    at_ms: int
    country: str = "ZZ"
    device_type: str = "unknown"
    device_id: str = ""
    episode_id: str | None = None
    position_ms: int = 0
    cells: dict[str, str] = {}
    degraded: tuple[str, ...] = ()


Moment = Literal[
    "start", "heartbeat", "pause", "resume", "seek", "stop", "error", "rating", "quality"
]


class PlayerEvent(Wire, frozen=True, omit_defaults=True, gc=False):
    """`play.<kind>.v1` on `playback.beacon`: what a player saw. Event time is `at_ms` (UNIX, UTC).

    `seq` grows by one a session from 1; `position_ms` is where the player stands in the title.
    `session_started_ms` orders sessions; a player that leaves it 0 is ordered by `at_ms`.
    """

    session_id: str
    seq: int
    kind: Moment
    profile_id: str
    title_id: str
    at_ms: int
    position_ms: int
    duration_ms: int
    play_id: str = ""
    episode_id: str | None = None
    device_type: str = "unknown"
    device_id: str = ""
    country: str = "ZZ"
    session_started_ms: int = 0
    rebuffer_ms: int = 0
    bitrate_kbps: int = 0
    value: float | None = None
    cmcd: dict[str, str] = {}

    @property
    def type(self) -> str:
        return f"play.{self.kind}.v1"

    @property
    def id(self) -> str:
        return f"{self.session_id}:{self.seq}"


class LeaseChanged(Wire, frozen=True, omit_defaults=True):
    """`session.<what>.v1` on `session.lease`: a stream lease began, ended or was evicted."""

    session_id: str
    account_id: str
    profile_id: str
    what: Literal["acquired", "released", "expired", "evicted"]
    at_ms: int
    title_id: str = ""
    device_id: str = ""
    provisional: bool = False
