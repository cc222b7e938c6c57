"""The trace and the request id of every exchange."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chassis.clock import Clock
from chassis.telemetry import TRACEPARENT, Trace
from gateway.filters.chain import Filter

if TYPE_CHECKING:
    from gateway.exchange import Exchange


class TraceContext(Filter):
    """Starts a trace. Only a trusted proxy's is continued: anybody else's is kept as a link.

    The request id is the trace id, so that one word found in a log finds everything.
    """

    name = "trace"
    order = -1000

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def apply(self, exchange: Exchange) -> None:
        trace = self._continued(exchange) or Trace.new(self._clock)
        exchange.trace = trace
        exchange.headers += (
            (TRACEPARENT, trace.header()),
            (b"x-request-id", trace.trace_id.encode()),
        )

    def _continued(self, exchange: Exchange) -> Trace | None:
        claimed = exchange.claimed_trace
        if claimed is None or not exchange.is_trusted:
            return None
        theirs = Trace.parse(claimed)
        return None if theirs is None else theirs.child(self._clock)
