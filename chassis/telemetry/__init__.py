"""What a process tells about itself: metrics, spans, one-line logs."""

from chassis.telemetry.logs import LineLog, shown_path
from chassis.telemetry.metrics import BUCKETS, Metrics
from chassis.telemetry.spans import RING, Span, SpanRing
from chassis.telemetry.telemetry import Telemetry
from chassis.telemetry.trace import TRACEPARENT, Identifiers, Trace

__all__ = [
    "BUCKETS",
    "RING",
    "TRACEPARENT",
    "Identifiers",
    "LineLog",
    "Metrics",
    "Span",
    "SpanRing",
    "Telemetry",
    "Trace",
    "shown_path",
]
