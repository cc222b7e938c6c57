"""Dead letters: the original bytes of what could not be processed, with where and why.

They go to `<topic>.dlq` under the key `topic-partition-offset`, with the headers that Kafka
Connect writes, so that its tools find their way. They are acknowledged before the offsets of the
records they stand for are committed; a crash in between repeats them under the same key.
"""

from __future__ import annotations

from chassis.errors import StagedoorError
from chassis.events import Log, Message, Record
from chassis.events.log import MESSAGE_LIMIT

SUFFIX = ".dlq"
NAME = "stagedoor"
_HEADERS_ROOM = 8_192
_TEXT_LIMIT = 1_000


def dead_letter(record: Record, fault: StagedoorError) -> Message:
    """What stands for `record` in the dead letter topic."""
    origin = f"{record.topic}-{record.partition}-{record.offset}"
    room = MESSAGE_LIMIT - _HEADERS_ROOM
    headers = [
        ("__connect.errors.topic", record.topic),
        ("__connect.errors.partition", str(record.partition)),
        ("__connect.errors.offset", str(record.offset)),
        ("__connect.errors.connector.name", NAME),
        ("__connect.errors.stage", "VALUE_CONVERTER"),
        ("__connect.errors.exception.class.name", type(fault).__name__),
        ("__connect.errors.exception.message", fault.detail[:_TEXT_LIMIT]),
        ("stagedoor.reason", fault.code),
        ("stagedoor.key", record.key[:_TEXT_LIMIT].decode("utf-8", "replace")),
    ]
    if len(record.value) > room:
        headers.append(("stagedoor.truncated", str(len(record.value))))
    encoded = tuple((name, text.encode("utf-8", "replace")) for name, text in headers)
    return Message(record.topic + SUFFIX, origin.encode(), record.value[:room], encoded)


class DeadLetters:
    """Collects dead letters and produces them. `by_reason` counts what was acknowledged."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._waiting: list[tuple[Message, str]] = []
        self.by_reason: dict[str, int] = {}

    def add(self, record: Record, fault: StagedoorError) -> None:
        self._waiting.append((dead_letter(record, fault), fault.code))

    async def settle(self) -> None:
        """Returns once every dead letter is durable in the log."""
        if not self._waiting:
            return
        going = list(self._waiting)
        await self._log.produce([message for message, _ in going])
        del self._waiting[: len(going)]
        for _, reason in going:
            self.by_reason[reason] = self.by_reason.get(reason, 0) + 1

    def forget(self) -> None:
        self._waiting.clear()
