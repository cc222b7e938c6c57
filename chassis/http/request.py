"""A request as a handler sees it, and what it hands on to the calls that it makes.

Most calls are answered without a look at their deadline, their trace or their passport: these are
read from the head when somebody asks for them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import msgspec

from chassis.clock import Clock
from chassis.deadline import GRPC_HEADER, Deadline, parse_grpc_timeout, parse_timeout_ms
from chassis.deadline import HEADER as DEADLINE_HEADER
from chassis.http.framing import Headers
from chassis.identity import PASSPORT_HEADER, Passport, PassportVerifier
from chassis.telemetry import TRACEPARENT, Identifiers, Trace


class Context(msgspec.Struct):
    """What a request hands on to the calls it makes: its deadline, its trace and who asks."""

    deadline: Deadline
    trace: Trace
    passport_bytes: bytes = b""


class Asked(NamedTuple):
    """What a head tells of its context: a traceparent, seconds until nobody waits, a passport."""

    traceparent: bytes | None
    timeout_s: float
    passport: bytes

    @classmethod
    def of(cls, headers: Headers) -> Asked:
        """Raises `BadRequest` for a timeout that is none; of two, the smaller one counts."""
        fields = dict(headers)
        timeout_s = math.inf
        if DEADLINE_HEADER in fields:
            timeout_s = parse_timeout_ms(fields[DEADLINE_HEADER])
        if GRPC_HEADER in fields:
            timeout_s = min(timeout_s, parse_grpc_timeout(fields[GRPC_HEADER]))
        return cls(fields.get(TRACEPARENT), timeout_s, fields.get(PASSPORT_HEADER, b""))


NOBODY = Asked(None, math.inf, b"")


class Desk:
    """Makes contexts of what heads tell; knows whom to believe."""

    __slots__ = ("clock", "identifiers", "verifier")

    def __init__(self, clock: Clock, identifiers: Identifiers, verifier: PassportVerifier) -> None:
        self.clock = clock
        self.identifiers = identifiers
        self.verifier = verifier

    def context(self, asked: Asked, at: float) -> Context:
        """The context of a request that came at `at` (monotonic)."""
        deadline = Deadline(self.clock, at + asked.timeout_s)
        return Context(deadline, self.trace(asked.traceparent), asked.passport)

    def trace(self, traceparent: bytes | None) -> Trace:
        """A span of our own below the caller's, or in a new trace."""
        caller = None if traceparent is None else Trace.parse(traceparent)
        return self.identifiers.new_trace() if caller is None else self.identifiers.child(caller)


class Request(msgspec.Struct):
    """One request. Header names are lower case; a call has no headers besides its `context`."""

    method: str
    path: str
    params: Mapping[str, Any]
    query_string: bytes
    headers: Headers
    body: bytes
    asked: Asked
    at: float
    desk: Desk
    notes: dict[str, Any] = msgspec.field(default_factory=dict)
    """What the handler wants in the request's log line and span."""
    made: Context | None = None

    @property
    def context(self) -> Context:
        if self.made is None:
            self.made = self.desk.context(self.asked, self.at)
        return self.made

    @property
    def passport(self) -> Passport:
        """Who asks; `Unauthenticated` when nobody told, or not in a way that we believe."""
        return self.desk.verifier.verify(self.asked.passport)

    def header(self, name: bytes) -> str | None:
        for known, value in self.headers:
            if known == name:
                return value.decode("latin-1")
        return None

    def query(self, name: str) -> str | None:
        values = parse_qs(self.query_string.decode("latin-1")).get(name)
        return values[0] if values else None
