"""What the pipeline counts, as plain integers that are read at scrape."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from chassis.events import Record
from chassis.telemetry.metrics import Labels, Metrics
from stream_pipeline.dead_letter import DeadLetters
from stream_pipeline.operators.decode import Decoded
from stream_pipeline.operators.dedup import Verdict
from stream_pipeline.source import Source

TOLD_LATE_MS = 60_000
_BUCKETS = (0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 60.0)


class Measures:
    """The families, shared by both groups of a process."""

    def __init__(self, metrics: Metrics) -> None:
        self.records = metrics.counter(
            "stream_records_total",
            "Records taken, by group and what became of them.",
            ("stage", "result"),
        )
        self.duplicates = metrics.counter(
            "stream_duplicates_total", "Events that had been seen before.", ("stage",)
        )
        self.delay = metrics.histogram(
            "stream_end_to_end_seconds",
            "From the event to its being durable in the sink.",
            ("sink",),
            _BUCKETS,
        )
        self.writes = metrics.counter("sink_writes_total", "Flushes of a sink.", ("sink", "result"))
        self.durations = metrics.histogram("sink_duration_seconds", "One flush.", ("sink",))
        self._groups: list[GroupMeasures] = []
        metrics.gauge(
            "stream_lag_records", "Records not taken yet.", ("stage", "topic"), read=self._lag
        )
        metrics.gauge(
            "stream_halted", "1 when a group waits for an operator.", ("stage",), read=self._halted
        )

    def group(self, name: str) -> GroupMeasures:
        group = GroupMeasures(name, self)
        self._groups.append(group)
        return group

    def _lag(self) -> Iterable[tuple[Labels, float]]:
        for group in self._groups:
            for topic, count in group.lag.items():
                yield (group.name, topic), count

    def _halted(self) -> Iterable[tuple[Labels, float]]:
        return [((group.name,), float(group.halted)) for group in self._groups]


class GroupMeasures:
    """One group's numbers, and how far it has read."""

    def __init__(self, name: str, families: Measures) -> None:
        self.name = name
        self.lag: dict[str, int] = {}
        self.halted = False
        self._verdicts = {v: families.records.child(name, v.value) for v in Verdict}
        self._undecodable = families.records.child(name, "undecodable")
        self._other = families.records.child(name, "other_type")
        self._duplicates = families.duplicates.child(name)
        self._delay = families.delay.child(name)
        self._ok = families.writes.child(name, "ok")
        self._failed = families.writes.child(name, "failed")
        self._duration = families.durations.child(name)
        self._positions: dict[Source, int] = {}
        self._waiting: dict[Source, deque[tuple[int, int]]] = {}

    def taken(
        self, source: Source, record: Record, decoded: Decoded | None, verdict: Verdict
    ) -> None:
        self._positions[source] = record.offset + 1
        if decoded is None:
            self._undecodable.n += 1
            return
        if decoded.at_ms is None:
            self._other.n += 1
            return
        self._verdicts[verdict].n += 1
        if verdict is Verdict.DUPLICATE:
            self._duplicates.n += 1
        told_late = decoded.at_ms < record.timestamp_ms - TOLD_LATE_MS
        since = record.timestamp_ms if told_late else decoded.at_ms
        self._waiting[source].append((record.offset, since))

    def visible(self, positions: Mapping[Source, int], now: float) -> None:
        """Everything before these positions is durable now."""
        for source, position in positions.items():
            waiting = self._waiting.get(source)
            while waiting and waiting[0][0] < position:
                self._delay.observe(max(0.0, now - waiting.popleft()[1] / 1000))

    def flushed(self, seconds: float) -> None:
        self._ok.n += 1
        self._duration.observe(seconds)

    def failed(self) -> None:
        self._failed.n += 1

    def at(self, source: Source, offset: int) -> None:
        self._positions[source] = offset
        self._waiting[source] = deque()

    def left(self, source: Source) -> None:
        self._positions.pop(source, None)
        self._waiting.pop(source, None)

    def positions(self, topic: str) -> dict[int, int]:
        return {s.partition: at for s, at in self._positions.items() if s.topic == topic}


def tell_of_dead_letters(metrics: Metrics, dead_letters: DeadLetters) -> None:
    def read() -> Iterable[tuple[Labels, float]]:
        return [((reason,), count) for reason, count in dead_letters.by_reason.items()]

    metrics.counted("dlq_records_total", "Dead letters by reason.", ("reason",), read=read)
