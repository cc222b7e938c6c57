"""Envelopes for tests, and a log that takes or refuses as told."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from chassis.contracts.events import Envelope
from chassis.errors import Missing, StoreUnavailable
from chassis.events import Consumer, Message, Topic
from chassis.events.log import LogCounts


def envelope(seq: int, session: str = "s", pad: int = 0) -> Envelope:
    return Envelope(
        id=f"{session}:{seq}",
        source="test",
        type="play.heartbeat.v1",
        time="2025-01-01T00:00:00Z",
        partitionkey=session,
        data=msgspec.Raw(msgspec.json.encode({"pad": "x" * pad})),
    )


def seq_of(message: Message) -> int:
    return int(msgspec.json.decode(message.value, type=Envelope).id.partition(":")[2])


class ScriptedLog:
    """Remembers what is produced; fails as long as `down`, because of `why`, and for want of
    topics that are `gone`."""

    def __init__(self) -> None:
        self.down = False
        self.why = "the log is away"
        self.gone: set[str] = set()
        self.counts = LogCounts()
        self.messages: list[Message] = []
        self.refused = 0

    async def produce(self, messages: Sequence[Message]) -> list[tuple[int, int]]:
        if self.down:
            self.refused += 1
            raise StoreUnavailable(self.why)
        if lost := self.gone & {one.topic for one in messages}:
            raise Missing(f"there is no topic {lost}")
        self.messages += messages
        return [(0, n) for n in range(len(messages))]

    async def ensure(self, *topics: Topic) -> None:
        self.gone -= {topic.name for topic in topics}

    def consumer(self, group: str, topics: Sequence[str]) -> Consumer:
        raise NotImplementedError

    async def starts(self, topic: str) -> dict[int, int]:
        return {}

    async def ends(self, topic: str) -> dict[int, int]:
        return {}

    async def epoch(self, topic: str) -> int:
        return 0

    async def close(self) -> None: ...
