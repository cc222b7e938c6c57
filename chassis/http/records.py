"""What became of each request: counted, timed, told as a span and as a log line, in batches.

A request leaves one tuple. Working it out is as much work as a small request itself, and cheaper
by far when many are worked out in a row: that happens every quarter of a second under load, when
there are many, and before anybody reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from chassis.clock import Timer
from chassis.http.operation import Operation
from chassis.http.request import Request
from chassis.telemetry import Span, Telemetry, Trace, shown_path

BATCH = 64
_SETTLE_S = 0.25

Record = tuple[Operation | None, Request, float, float, int, str, str]
"""The operation, the request, when it came (UNIX), seconds taken, status, outcome, fault."""


class Records:
    """The requests of one service that are over, until they are told."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._waiting: list[Record] = []
        self._timer: Timer | None = None
        metrics = telemetry.metrics
        self._requests = metrics.counter(
            "service_requests_total", "Requests answered.", ("operation", "code", "outcome")
        )
        self._durations = metrics.histogram(
            "service_request_duration_seconds", "From head to answer.", ("operation",)
        )
        telemetry.before_reading(self.settle)

    def follow(self, operation: Operation) -> None:
        """Shows the operation's durations from now on."""
        operation.duration = self._durations.child(operation.name)

    def add(self, record: Record) -> None:
        waiting = self._waiting
        waiting.append(record)
        if len(waiting) == 1:
            self._timer = self._telemetry.clock.call_later(_SETTLE_S, self.settle)
        elif len(waiting) >= BATCH:
            self.settle()

    def settle(self) -> None:
        """Tells all that wait."""
        waiting, self._waiting = self._waiting, []
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for record in waiting:
            self._tell(*record)

    def _tell(
        self,
        operation: Operation | None,
        request: Request,
        start: float,
        lasted_s: float,
        status: int,
        outcome: str,
        fault: str,
    ) -> None:
        self._count(operation, status, outcome, lasted_s)
        made = request.made
        trace = request.desk.trace(request.asked.traceparent) if made is None else made.trace
        name = "unmatched" if operation is None else operation.name
        route = None if operation is None else operation.path
        served = Served(
            trace, name, request.method, request.path, route, start, lasted_s, status, outcome,
            request.notes, fault,
        )  # fmt: skip
        self._telemetry.spans.add(served)
        self._telemetry.log.request(served.line, start + lasted_s)

    def _count(
        self, operation: Operation | None, status: int, outcome: str, lasted_s: float
    ) -> None:
        if operation is None:
            self._requests.child("unmatched", str(status), outcome).n += 1
            return
        counter = operation.counters.get((status, outcome))
        if counter is None:
            counter = self._requests.child(operation.name, str(status), outcome)
            operation.counters[status, outcome] = counter
        counter.n += 1
        if operation.duration is not None:
            operation.duration.observe(lasted_s)


class Served(msgspec.Struct, frozen=True):
    """What became of one request, as its span and its log line."""

    trace: Trace
    name: str
    method: str
    path: str
    route: str | None
    start: float
    lasted_s: float
    status: int
    outcome: str
    notes: Mapping[str, Any]
    fault: str

    def as_dict(self, service: str) -> dict[str, Any]:
        """As a span."""
        attributes = {
            "http.request.method": self.method,
            "http.route": self.route,
            "http.response.status_code": self.status,
            **self.notes,
        }
        end = self.start + self.lasted_s
        return Span(self.trace, self.name, self.start, end, self.outcome, attributes).as_dict(
            service
        )

    def line(self) -> dict[str, Any]:
        line = {
            "trace": self.trace.trace_id,
            "operation": self.name,
            "method": self.method,
            "path": shown_path(self.path),
            "status": self.status,
            "outcome": self.outcome,
            "duration_ms": round(self.lasted_s * 1000, 3),
            **self.notes,
        }
        if self.fault:
            line["fault"] = self.fault
        return line
