"""How the spool frames entries in a file, so that a torn tail is told from a whole entry.

A frame is the payload's length and CRC-32, both little-endian 32 bits, then the payload (never
empty: a run of zeros, which a crash may leave, must not look like frames).
"""

from __future__ import annotations

import struct
from zlib import crc32

import msgspec

from chassis.events.log import MESSAGE_LIMIT, Message

_HEAD = struct.Struct("<II")
FRAME_LIMIT = MESSAGE_LIMIT + 4096
"""Bytes of the largest frame: a message at its limit, and what MessagePack adds."""

_Stored = tuple[str, bytes, bytes, tuple[tuple[str, bytes], ...]]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Stored).decode


def frame(payload: bytes) -> bytes:
    return _HEAD.pack(len(payload), crc32(payload)) + payload


def unframe(data: bytes, limit: int | None = None) -> tuple[list[bytes], int]:
    """The payloads of the whole frames at the start of `data`, and where the last of them ends."""
    payloads: list[bytes] = []
    at = 0
    while len(data) - at > _HEAD.size and len(payloads) != limit:
        length, checksum = _HEAD.unpack_from(data, at)
        start, end = at + _HEAD.size, at + _HEAD.size + length
        if not length or end > len(data):
            break
        payload = data[start:end]
        if crc32(payload) != checksum:
            break
        payloads.append(payload)
        at = end
    return payloads, at


def pack_message(message: Message) -> bytes:
    return frame(_encode((message.topic, message.key, message.value, message.headers)))


def unpack_message(payload: bytes) -> Message:
    return Message(*_decode(payload))
