"""Whether an attempt may be made again: what a rule allows, and what an outcome proves. Pure."""

from __future__ import annotations

from chassis.errors import (
    ConnectFailed,
    OriginFailure,
    OriginGarbled,
    OriginReset,
    OriginTimeout,
)
from chassis.http.framing import Headers
from gateway.budget import FLOOR, UNSENT_FLOOR
from gateway.rules.model import Retry

IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"})
"""Methods whose repetition is harmless (RFC 9110 section 9.2.2)."""

IDEMPOTENCY_KEY = b"idempotency-key"
DO_NOT_RETRY = b"x-do-not-retry"
ATTEMPT = b"x-attempt"
"""On a request: which attempt it is, from the second on. On an answer: how many were spent on it
further in, so that nobody tries again around them."""


class Retries:
    """A rule's `retry`, ready to be asked."""

    __slots__ = ("attempt_timeout_s", "attempts", "statuses")

    def __init__(self, retry: Retry) -> None:
        self.attempts = retry.attempts
        self.statuses = frozenset(retry.statuses) if retry.attempts > 1 else frozenset()
        self.attempt_timeout_s = retry.attempt_timeout_s

    def __repr__(self) -> str:
        return f"Retries({self.attempts} attempts, {sorted(self.statuses)})"


class Reason:
    """Why another attempt would be made. `proven`: the last one provably was not processed.

    `same` allows the same instance where there is no other: its connection was of the past.
    """

    __slots__ = ("floor", "name", "proven", "same")

    def __init__(self, name: str, *, proven: bool = False, same: bool = False) -> None:
        self.name = name
        self.proven = proven
        self.same = same
        self.floor = UNSENT_FLOOR if proven else FLOOR

    def __repr__(self) -> str:
        return f"Reason({self.name})"


CONNECT = Reason("connect", proven=True)
UNSENT = Reason("unsent", proven=True, same=True)
STALE = Reason("reset", same=True)
RESET = Reason("reset")
TIMEOUT = Reason("timeout")
GARBLED = Reason("garbled")
STATUS = Reason("status")


def reason_of(failure: OriginFailure, *, is_kept: bool) -> Reason | None:
    """`is_kept`: the connection had served before, so that its other side may close it any time."""
    if isinstance(failure, ConnectFailed):
        return CONNECT
    if isinstance(failure, OriginReset):
        if not failure.sent:
            return UNSENT
        return STALE if is_kept else RESET
    if isinstance(failure, OriginTimeout):
        return TIMEOUT
    return GARBLED if isinstance(failure, OriginGarbled) else None


def is_repeatable(method: bytes, headers: Headers) -> bool:
    """Whether doing it twice is harmless: by its method, or because its caller gave it a key."""
    return method in IDEMPOTENT or any(name == IDEMPOTENCY_KEY for name, _ in headers)


def forbids_retry(headers: Headers) -> bool:
    """Whether an answer says that trying again is no use, or was done already further in."""
    for name, value in headers:
        lower = name.lower()
        if lower == DO_NOT_RETRY:
            return True
        if lower == ATTEMPT and value.isdigit() and int(value) > 1:
            return True
    return False
