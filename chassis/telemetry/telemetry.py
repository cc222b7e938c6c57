"""The telemetry of one process: its metrics, its spans and its log under one name."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from chassis.clock import Clock, Timer
from chassis.telemetry.logs import LineLog
from chassis.telemetry.metrics import Labels, Metrics
from chassis.telemetry.spans import RING, Span, SpanRing
from chassis.telemetry.trace import Identifiers, Trace

_NO_ATTRIBUTES: Mapping[str, Any] = MappingProxyType({})
_LAG_EVERY_S = 0.5
_LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


class Telemetry:
    def __init__(
        self,
        service: str,
        instance: str,
        clock: Clock,
        *,
        log_file: Path | None = None,
        spans: int = RING,
    ) -> None:
        self.service = service
        self.instance = instance
        self.clock = clock
        self.metrics = Metrics()
        self.identifiers = Identifiers(clock)
        self.spans = SpanRing(spans)
        self.log = LineLog(log_file, clock, {"service": service, "instance": instance})
        self._lag = self.metrics.histogram(
            "event_loop_lag_seconds", "How late the loop ran a timer.", buckets=_LAG_BUCKETS
        ).child()
        self.metrics.gauge("open_fds", "Open file descriptors.", read=_open_fds)
        self.metrics.gauge("process_resident_memory_bytes", "RSS.", read=_resident)
        self.metrics.counted("process_cpu_seconds_total", "User and system CPU.", read=_cpu)
        self.metrics.counted("log_lines_dropped_total", "Lines lost.", read=self._dropped)
        self._timer: Timer | None = None
        self._settling: list[Callable[[], None]] = []

    @classmethod
    def open(
        cls, service: str, instance: str, clock: Clock, root: Path, *, spans: int = RING
    ) -> Telemetry:
        """With its log below `root`; an instance without a name gets one that nobody else has."""
        instance = instance or f"{service}-{clock.entropy(4).hex()}"
        log_file = root / "log" / f"{instance}.jsonl"
        log_file.parent.mkdir(parents=True, exist_ok=True)
        return cls(service, instance, clock, log_file=log_file, spans=spans)

    def span(
        self,
        trace: Trace,
        name: str,
        start: float,
        outcome: str,
        attributes: Mapping[str, Any] = _NO_ATTRIBUTES,
    ) -> None:
        """Records work that began at `start` (UNIX seconds) and ends now."""
        self.spans.add(Span(trace, name, start, self.clock.now(), outcome, attributes))

    def before_reading(self, settle: Callable[[], None]) -> None:
        """Calls `settle` whenever somebody is going to read metrics, spans or the log's end."""
        self._settling.append(settle)
        self.metrics.before_scrape(settle)

    def _settle(self) -> None:
        for settle in self._settling:
            settle()

    def trace(self, trace_id: str) -> list[dict[str, Any]]:
        self._settle()
        return [span.as_dict(self.service) for span in self.spans.of_trace(trace_id)]

    def watch_loop(self) -> None:
        """Starts measuring how late the running loop's timers are."""
        due = self.clock.monotonic() + _LAG_EVERY_S
        self._timer = self.clock.call_later(_LAG_EVERY_S, self._measure, due)

    def _measure(self, due: float) -> None:
        self._lag.observe(max(0.0, self.clock.monotonic() - due))
        self.watch_loop()

    def _dropped(self) -> Iterable[tuple[Labels, float]]:
        return [((), self.log.dropped)]

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._settle()
        self.log.close()


def _open_fds() -> Iterable[tuple[Labels, float]]:
    try:
        return [((), len(os.listdir("/proc/self/fd")))]  # noqa: PTH208
    except OSError:
        return []


def _resident() -> Iterable[tuple[Labels, float]]:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return []
    return [((), pages * resource.getpagesize())]


def _cpu() -> Iterable[tuple[Labels, float]]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return [((), used.ru_utime + used.ru_stime)]
