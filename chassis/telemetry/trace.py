"""W3C trace context: which request this is, across every process it touches."""

from __future__ import annotations

import re

from chassis.clock import Clock

TRACEPARENT = b"traceparent"

_FORM = re.compile(
    rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?\Z", re.DOTALL
)
_SAMPLED = 1


class Trace:
    """One hop's place in a trace: the trace, this hop's span, and the span that caused it."""

    __slots__ = ("parent_id", "sampled", "span_id", "trace_id")

    def __init__(self, trace_id: str, span_id: str, parent_id: str | None, sampled: bool) -> None:
        self.trace_id = trace_id
        self.span_id = span_id
        self.parent_id = parent_id
        self.sampled = sampled

    @classmethod
    def new(cls, clock: Clock) -> Trace:
        drawn = clock.entropy(24).hex()
        return cls(drawn[:32], drawn[32:], None, sampled=True)

    @classmethod
    def parse(cls, value: bytes) -> Trace | None:
        """The caller's span as a traceparent tells it; None when it is malformed or all zeros."""
        match = _FORM.match(value)
        if match is None or match[1] == b"ff" or (match[1] == b"00" and len(value) != 55):
            return None
        trace_id, span_id = match[2].decode(), match[3].decode()
        if not int(trace_id, 16) or not int(span_id, 16):
            return None
        return cls(trace_id, span_id, None, bool(int(match[4], 16) & _SAMPLED))

    def child(self, clock: Clock) -> Trace:
        """A new span below this one."""
        return Trace(self.trace_id, clock.entropy(8).hex(), self.span_id, self.sampled)

    def header(self) -> bytes:
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}".encode()

    def __repr__(self) -> str:
        return f"Trace({self.header().decode()})"
