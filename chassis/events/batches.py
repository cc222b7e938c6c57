"""How the embedded log packs messages into batches, one a partition, and takes them out again.

A batch's body is its entries, one MessagePack array `[key, value, headers]` each, one after the
other, so that bodies of waiting producers join by concatenation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from chassis.errors import Unprocessable
from chassis.events.log import MESSAGE_LIMIT, Message, Partition, Record

Entry = tuple[bytes, bytes, tuple[tuple[str, bytes], ...]]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Entry]).decode


@dataclass(frozen=True, slots=True)
class Parcel:
    """One producer's messages, packed. `slots` tells, for each, its part and its place in it."""

    parts: Sequence[tuple[Partition, int, bytes]]  # partition, count, body
    slots: Sequence[tuple[int, int]]

    def positions(self, bases: Mapping[Partition, int]) -> list[tuple[int, int]]:
        """(partition, offset) of each message, given the first offset of each part."""
        firsts = [(partition[1], bases[partition]) for partition, _, _ in self.parts]
        return [(firsts[part][0], firsts[part][1] + place) for part, place in self.slots]


def pack(messages: Sequence[Message], place: Callable[[str, bytes], int]) -> Parcel:
    """Sorts messages by partition, keeping their order; `place(topic, key)` tells the partition."""
    order: dict[Partition, int] = {}
    entries: list[list[Entry]] = []
    slots: list[tuple[int, int]] = []
    for message in messages:
        partition = (message.topic, place(message.topic, message.key))
        part = order.get(partition)
        if part is None:
            part = order[partition] = len(entries)
            entries.append([])
        slots.append((part, len(entries[part])))
        entries[part].append((message.key, message.value, message.headers))
    parts = [
        (partition, len(entries[part]), _body(entries[part])) for partition, part in order.items()
    ]
    return Parcel(parts, slots)


def check_size(message: Message) -> int:
    """A message's bytes; `Unprocessable` for one that no log would take."""
    size = len(message.key) + len(message.value)
    for name, value in message.headers:
        size += len(name.encode()) + len(value)
    if size > MESSAGE_LIMIT:
        raise Unprocessable(
            f"a message of {size} bytes for {message.topic}: {MESSAGE_LIMIT} at most"
        )
    return size


def unpack(
    partition: Partition, base: int, count: int, timestamp_ms: int, body: bytes
) -> list[Record]:
    topic, number = partition
    entries = _decode(_array_head(count) + body)
    return [
        Record(topic, number, offset, key, value, headers, timestamp_ms)
        for offset, (key, value, headers) in enumerate(entries, base)
    ]


def _body(entries: list[Entry]) -> bytes:
    return _encode(entries)[len(_array_head(len(entries))) :]


def _array_head(count: int) -> bytes:
    """MessagePack's head of an array of `count`."""
    if count < 16:
        return bytes((0x90 | count,))
    if count < 1 << 16:
        return b"\xdc" + count.to_bytes(2, "big")
    return b"\xdd" + count.to_bytes(4, "big")
