"""The trace and the request id of every exchange."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chassis.clock import Clock
from chassis.telemetry import TRACEPARENT, Trace
from gateway.filters.chain import Filter

if TYPE_CHECKING:
    from gateway.exchange import Exchange


_DRAWN = 48 * 64


class Identifiers:
    """Random hexadecimal digits drawn in bulk: one system call serves many traces."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._digits = ""
        self._at = _DRAWN

    def new_trace(self) -> Trace:
        """A trace with its first span."""
        at = self._at
        if at >= _DRAWN:
            self._digits = self._clock.entropy(_DRAWN // 2).hex()
            at = 0
        self._at = at + 48
        return Trace(self._digits[at : at + 32], self._digits[at + 32 : at + 48], None, True)


class TraceContext(Filter):
    """Starts a trace. Only a trusted proxy's is continued: anybody else's is kept as a link.

    The request id is the trace id, so that one word found in a log finds everything.
    """

    name = "trace"
    order = -1000

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._identifiers = Identifiers(clock)

    def apply(self, exchange: Exchange) -> None:
        trace = None if exchange.claimed_trace is None else self._continued(exchange)
        exchange.trace = trace = trace or self._identifiers.new_trace()
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
