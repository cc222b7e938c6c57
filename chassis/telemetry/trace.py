"""W3C trace context: which request this is, across every process it touches."""

from __future__ import annotations

import re

from chassis.clock import Clock

TRACEPARENT = b"traceparent"

_DRAWN = 1024

_FORM = re.compile(
    rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?\Z", re.DOTALL
)
_SAMPLED = 1
_NO_TRACE = b"0" * 32
_NO_SPAN = b"0" * 16


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
        if match is None:
            return None
        version, trace_id, span_id, flags = match.groups()
        if version == b"ff" or (version == b"00" and len(value) != 55):
            return None
        if trace_id == _NO_TRACE or span_id == _NO_SPAN:
            return None
        sampled = flags == b"01" or bool(int(flags, 16) & _SAMPLED)
        return cls(trace_id.decode(), span_id.decode(), None, sampled)

    def child(self, clock: Clock) -> Trace:
        """A new span below this one."""
        return Trace(self.trace_id, clock.entropy(8).hex(), self.span_id, self.sampled)

    def header(self) -> bytes:
        return self.header_of(self.span_id)

    def header_of(self, span_id: str) -> bytes:
        """The traceparent of a span in this trace."""
        return f"00-{self.trace_id}-{span_id}-{'01' if self.sampled else '00'}".encode()

    def __repr__(self) -> str:
        return f"Trace({self.header().decode()})"


class Identifiers:
    """Random hexadecimal digits drawn in bulk: one system call serves many spans.

    Make it in the process that uses it: a fork would draw the same ones.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._digits = ""
        self._at = 0

    def new_trace(self) -> Trace:
        """A trace with its first span."""
        drawn = self._draw(48)
        return Trace(drawn[:32], drawn[32:], None, sampled=True)

    def child(self, parent: Trace) -> Trace:
        """A new span below `parent`."""
        return Trace(parent.trace_id, self.span_id(), parent.span_id, parent.sampled)

    def span_id(self) -> str:
        return self._draw(16)

    def _draw(self, size: int) -> str:
        at, end = self._at, self._at + size
        if end > len(self._digits):
            self._digits = self._clock.entropy(_DRAWN // 2).hex()
            at, end = 0, size
        self._at = end
        return self._digits[at:end]
