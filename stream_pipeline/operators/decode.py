"""From a record to a typed fact, or the reason why it cannot be one."""

from __future__ import annotations

from typing import Literal

import msgspec

from chassis.contracts.events import Envelope, PlayerEvent, PlayStarted
from chassis.contracts.wire import NOT_DECODED
from chassis.errors import RequestFailure
from chassis.events import Record

Fact = PlayerEvent | PlayStarted

FUTURE_MS = 24 * 3600 * 1000
BOUND = 1 << 53
_MOMENTS = ("start", "heartbeat", "pause", "resume", "seek", "stop", "error", "rating", "quality")


class _Told(msgspec.Struct, frozen=True, gc=False):
    """An envelope whose data is a player's event, which nearly all are, read in one pass."""

    id: str
    type: str
    source: str
    time: str
    partitionkey: str
    data: PlayerEvent
    specversion: Literal["1.0"] = "1.0"


_told = msgspec.json.Decoder(_Told)
_envelope = msgspec.json.Decoder(Envelope)
_player = msgspec.json.Decoder(PlayerEvent)
_started = msgspec.json.Decoder(PlayStarted)
_PLAYERS = frozenset(f"play.{moment}.v1" for moment in _MOMENTS)
_DATA = dict.fromkeys(_PLAYERS, _player) | {PlayStarted.TYPE: _started}
_KNOWN = frozenset(kind.rpartition(".")[0] for kind in _DATA)


class Undecodable(RequestFailure):
    """A record that nobody can use; `code` is the reason, one of a few words."""


class Decoded(msgspec.Struct, frozen=True, gc=False):
    """An envelope and its data. `fact` is None for a type of event that nobody here folds."""

    id: str
    type: str
    at_ms: int | None
    fact: Fact | None


def decode(record: Record) -> Decoded:
    """The fact in `record`; `Undecodable` with code envelope, version, data, key or event_time.

    The key is checked because a profile's rows follow the offsets of one partition only, and the
    time because one event from the far future would outweigh all others for good.
    """
    try:
        told = _told.decode(record.value)
    except NOT_DECODED:
        return _decode_by_parts(record)
    if told.type not in _PLAYERS or not told.id or not told.partitionkey:
        return _decode_by_parts(record)
    return _checked(record, told.id, told.type, told.data)


def _decode_by_parts(record: Record) -> Decoded:
    """Whatever it is, and what of it is wrong."""
    try:
        envelope = _envelope.decode(record.value)
    except NOT_DECODED as fault:
        raise Undecodable(str(fault), code="envelope") from None
    decoder = _DATA.get(envelope.type)
    if decoder is None:
        return _unknown(envelope)
    try:
        fact: Fact = decoder.decode(envelope.data)
    except NOT_DECODED as fault:
        raise Undecodable(str(fault), code="data") from None
    return _checked(record, envelope.id, envelope.type, fact)


def _checked(record: Record, event_id: str, kind: str, fact: Fact) -> Decoded:
    if fact.profile_id.encode() != record.key:
        raise Undecodable(f"keyed by another than profile {fact.profile_id!r}", code="key")
    if not _sound(fact):
        raise Undecodable("a number is out of all bounds", code="data")
    if not 0 <= fact.at_ms <= record.timestamp_ms + FUTURE_MS:
        raise Undecodable(f"at_ms {fact.at_ms} is later than its arrival", code="event_time")
    return Decoded(event_id, kind, fact.at_ms, fact)


def _sound(fact: Fact) -> bool:
    """Numbers that every store can hold."""
    if not (0 <= fact.position_ms < BOUND and 0 <= fact.duration_ms < BOUND):
        return False
    if isinstance(fact, PlayStarted):
        return True
    return 0 <= fact.seq < BOUND and 0 <= fact.session_started_ms < BOUND


def _unknown(envelope: Envelope) -> Decoded:
    """Other kinds of events pass; another version of a kind that matters does not."""
    name, _, version = envelope.type.rpartition(".")
    if name in _KNOWN:
        raise Undecodable(f"{name} is not understood in version {version}", code="version")
    return Decoded(envelope.id, envelope.type, None, None)


def identity(event_id: str) -> tuple[str, int] | None:
    """The session and sequence number in an event id; None when it has another form."""
    session, _, seq = event_id.rpartition(":")
    if not session or not (seq.isascii() and seq.isdigit()) or len(seq) > 18:
        return None
    return session, int(seq)
