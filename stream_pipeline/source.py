"""A partition of a topic in one life of that topic: where versions come from."""

from __future__ import annotations

import msgspec


class Source(msgspec.Struct, frozen=True, gc=False):
    """`epoch` is when the topic's life began, UNIX microseconds, so versions rise over lives."""

    topic: str
    partition: int
    epoch: int

    def version(self, offset: int) -> int:
        return self.epoch + offset

    @property
    def name(self) -> str:
        return f"{self.topic}/{self.partition}"
