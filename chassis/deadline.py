"""Deadlines: absolute inside a process, relative milliseconds on the wire.

A relative header needs no agreement between clocks; each hop subtracts what it used.
`x-request-timeout-ms` is ours, `grpc-timeout` is read as well; the smaller wins.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from chassis.clock import Clock
from chassis.errors import BadRequest, DeadlineExceeded

HEADER = b"x-request-timeout-ms"
GRPC_HEADER = b"grpc-timeout"

_GRPC = re.compile(rb"([0-9]{1,8})([HMSmun])\Z")
_GRPC_UNITS: Mapping[bytes, float] = {
    b"H": 3600.0,
    b"M": 60.0,
    b"S": 1.0,
    b"m": 1e-3,
    b"u": 1e-6,
    b"n": 1e-9,
}


class Deadline:
    """An instant on the clock's monotonic scale. `NEVER` has none."""

    __slots__ = ("at", "clock")

    def __init__(self, clock: Clock, at: float) -> None:
        self.clock = clock
        self.at = at

    @classmethod
    def after(cls, clock: Clock, seconds: float) -> Deadline:
        return cls(clock, clock.monotonic() + seconds)

    @classmethod
    def never(cls, clock: Clock) -> Deadline:
        return cls(clock, math.inf)

    def remaining(self) -> float:
        """Seconds left, negative once passed."""
        return self.at - self.clock.monotonic()

    def expired(self) -> bool:
        return self.clock.monotonic() >= self.at

    def at_most(self, seconds: float) -> Deadline:
        """The earlier of this deadline and `seconds` from now."""
        return Deadline(self.clock, min(self.at, self.clock.monotonic() + seconds))

    def check(self, doing: str) -> float:
        """Seconds left; raises `DeadlineExceeded` when there are none."""
        left = self.at - self.clock.monotonic()
        if left <= 0:
            raise DeadlineExceeded(f"the deadline passed before {doing}")
        return left

    def header(self) -> bytes | None:
        """What to send downstream's callee as `x-request-timeout-ms`; None without a deadline."""
        if self.at == math.inf:
            return None
        return b"%d" % max(0, math.floor(self.remaining() * 1000))

    def __repr__(self) -> str:
        return f"Deadline({self.remaining() * 1000:.0f} ms left)"


def parse_timeout_ms(value: bytes) -> float:
    """Seconds in an `x-request-timeout-ms` value; `BadRequest` when it is no whole number."""
    if not value.isdigit() or len(value) > 9:
        raise BadRequest("x-request-timeout-ms must be a whole number of milliseconds")
    return int(value) / 1000


def parse_grpc_timeout(value: bytes) -> float:
    """Seconds in a `grpc-timeout` value (at most 8 digits and one of H M S m u n)."""
    match = _GRPC.match(value)
    if match is None:
        raise BadRequest("grpc-timeout must be up to 8 digits and a unit of H, M, S, m, u or n")
    return int(match[1]) * _GRPC_UNITS[match[2]]
