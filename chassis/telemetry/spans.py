"""Spans: what happened in this process, kept in a ring that the admin port can be asked about.

Attribute names follow OpenTelemetry's semantic conventions. Recording is one append.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol

from msgspec import Struct

from chassis.telemetry.trace import Trace

RING = 1_024


class Spanned(Protocol):
    """Finished work that can be told as a span."""

    @property
    def trace(self) -> Trace: ...

    def as_dict(self, service: str) -> dict[str, Any]: ...


class Span(Struct, frozen=True):
    """One finished piece of work. Times are UNIX seconds."""

    trace: Trace
    name: str
    start: float
    end: float
    outcome: str
    attributes: Mapping[str, Any]

    def as_dict(self, service: str) -> dict[str, Any]:
        return {
            "trace_id": self.trace.trace_id,
            "span_id": self.trace.span_id,
            "parent_id": self.trace.parent_id,
            "service": service,
            "name": self.name,
            "start": self.start,
            "duration_ms": round((self.end - self.start) * 1000, 3),
            "outcome": self.outcome,
            "attributes": dict(self.attributes),
        }


class SpanRing:
    """The last spans of this process; the oldest make room."""

    def __init__(self, size: int = RING) -> None:
        self._spans: deque[Spanned] = deque(maxlen=size)
        self.add = self._spans.append

    def of_trace(self, trace_id: str) -> list[Spanned]:
        return [span for span in self._spans if span.trace.trace_id == trace_id]

    def __len__(self) -> int:
        return len(self._spans)
