"""The one shape in which our own processes call each other: written here, recognised whole here.

A call is an ordinary HTTP/1.1 request that any client may write in its own way. Exactly the bytes
that `written_call` writes are recognised by one expression instead of the general parser, which is
a third of what serving a call costs. Whatever differs by a byte goes the general way, so nothing is
accepted here that would be refused there, or read as something else.
"""

from __future__ import annotations

import math
import re

from chassis.deadline import HEADER as DEADLINE_HEADER
from chassis.http.request import Asked
from chassis.identity import PASSPORT_HEADER
from chassis.telemetry import TRACEPARENT

recognised = re.compile(
    rb"POST (/call/[a-z_]+) HTTP/1\.1\r\n"
    rb"host: [-0-9A-Za-z.:\[\]]+\r\n"
    rb"content-type: application/json\r\n"
    rb"content-length: (0|[1-9][0-9]{0,5})\r\n"
    + TRACEPARENT
    + rb": (00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})\r\n(?:"
    + DEADLINE_HEADER
    + rb": ([0-9]{1,9})\r\n)?(?:"
    + PASSPORT_HEADER
    + rb": ([-0-9A-Za-z._~+/=]{1,4096})\r\n)?\r\n"
).match
"""Matches the head of a call: its path, length, traceparent, timeout and passport."""


def asked(traceparent: bytes, timeout: bytes | None, passport: bytes | None) -> Asked:
    """What the last three groups of a recognised head tell."""
    timeout_s = math.inf if timeout is None else int(timeout) / 1000
    return Asked(traceparent, timeout_s, passport or b"")


def call_start(path: str, address: str) -> bytes:
    """What all calls of one kind to one instance begin with."""
    lines = [f"POST {path} HTTP/1.1", f"host: {address}", "content-type: application/json"]
    return "\r\n".join([*lines, "content-length: "]).encode()


def written_call(
    start: bytes, body: bytes, traceparent: bytes, timeout: bytes | None, passport: bytes
) -> bytes:
    """A whole call; `start` is what `call_start` gave."""
    rest = b"" if timeout is None else b"%b: %b\r\n" % (DEADLINE_HEADER, timeout)
    if passport:
        rest += b"%b: %b\r\n" % (PASSPORT_HEADER, passport)
    return b"%b%d\r\ntraceparent: %b\r\n%b\r\n%b" % (start, len(body), traceparent, rest, body)
