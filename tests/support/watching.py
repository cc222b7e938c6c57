"""Player events and play starts as tests write them, and the messages they travel in."""

from __future__ import annotations

from typing import Any

import msgspec

from chassis.contracts.events import (
    PLAY_LIFECYCLE,
    PLAYBACK_BEACON,
    Envelope,
    PlayerEvent,
    PlayStarted,
)
from chassis.events import Message, Record

BEGAN_MS = 1_700_000_000_000
FILM_MS = 5_400_000


def moment(
    seq: int,
    kind: str = "heartbeat",
    position_ms: int | None = None,
    *,
    profile: str = "p1",
    session: str = "s1",
    title: str = "t1",
    at_ms: int | None = None,
    **more: Any,
) -> PlayerEvent:
    """Event `seq` of a session that plays on at normal speed, ten seconds an event."""
    played = (seq - 1) * 10_000
    values: dict[str, Any] = {
        "session_id": session,
        "seq": seq,
        "kind": kind,
        "profile_id": profile,
        "title_id": title,
        "at_ms": BEGAN_MS + played if at_ms is None else at_ms,
        "position_ms": played if position_ms is None else position_ms,
        "duration_ms": FILM_MS,
        **more,
    }
    return msgspec.convert(values, PlayerEvent)


def start(
    session: str = "s1", profile: str = "p1", title: str = "t1", country: str = "US", **more: Any
) -> PlayStarted:
    values: dict[str, Any] = {
        "play_id": f"play-{session}",
        "session_id": session,
        "account_id": "a1",
        "profile_id": profile,
        "title_id": title,
        "duration_ms": FILM_MS,
        "at_ms": BEGAN_MS,
        "country": country,
        **more,
    }
    return msgspec.convert(values, PlayStarted)


def envelope(data: PlayerEvent | PlayStarted) -> Envelope:
    started = isinstance(data, PlayStarted)
    return Envelope(
        id=f"{data.session_id}:0" if isinstance(data, PlayStarted) else data.id,
        source="/test",
        type=PlayStarted.TYPE if isinstance(data, PlayStarted) else data.type,
        time="2023-11-14T22:13:20Z",
        partitionkey=data.profile_id,
        subject="start" if started else data.title_id,
        data=msgspec.Raw(msgspec.json.encode(data)),
    )


def message(data: PlayerEvent | PlayStarted) -> Message:
    topic = PLAY_LIFECYCLE if isinstance(data, PlayStarted) else PLAYBACK_BEACON
    return Message(topic, data.profile_id.encode(), msgspec.json.encode(envelope(data)))


def record(
    data: PlayerEvent | PlayStarted, offset: int = 0, partition: int = 0, **changes: Any
) -> Record:
    sent = message(data)
    values: dict[str, Any] = {
        "topic": sent.topic,
        "partition": partition,
        "offset": offset,
        "key": sent.key,
        "value": sent.value,
        "headers": (),
        "timestamp_ms": data.at_ms,
        **changes,
    }
    return Record(**values)
