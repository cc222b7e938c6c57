"""The trace of every exchange. The request id is the trace id, so that one word found in a log
finds everything."""

from __future__ import annotations

import struct

from chassis.clock import Clock
from chassis.telemetry import Trace

_DRAWN = 64
_DIGITS = 48


class Traces:
    """Random hexadecimal digits drawn in bulk, for one system call serves many traces."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._stock: list[bytes] = []

    def draw(self) -> bytes:
        """The 32 digits of a new trace's id and the 16 of its first span's."""
        if not self._stock:
            drawn = self._clock.entropy(_DRAWN * _DIGITS // 2).hex().encode()
            self._stock = list(struct.unpack(f"{_DIGITS}s" * _DRAWN, drawn))
        return self._stock.pop()

    def continued(self, claimed: bytes) -> Trace | None:
        """A new span in the trace that a traceparent tells of; None when it is malformed."""
        theirs = Trace.parse(claimed)
        return None if theirs is None else theirs.child(self._clock)


def lines(trace: Trace | None, digits: bytes) -> bytes:
    """The fields that tell the instance: of a trace, or of one that is just `digits` so far."""
    if trace is None:
        return b"traceparent: 00-%b-%b-01\r\nx-request-id: %b\r\n" % (
            digits[:32],
            digits[32:],
            digits[:32],
        )
    return b"traceparent: %b\r\nx-request-id: %b\r\n" % (trace.header(), trace.trace_id.encode())
