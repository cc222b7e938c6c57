"""What the end of a call says about the callee: the one classification every policy uses."""

from __future__ import annotations

import enum

import pybreaker

from chassis.errors import (
    PeerRefusal,
    Refusal,
    RequestFailure,
    StoreFailure,
    StoreUnavailable,
)

_TOO_MANY_REQUESTS = 429


class Verdict(enum.Enum):
    """What an outcome says about the callee."""

    SUCCESS = "success"
    FAILURE = "failure"
    IGNORED = "ignored"


def verdict_of(failure: Exception) -> Verdict:
    """SUCCESS: it did its part, the answer is just not the wished one (its own 4xx; a key that is
    missing or taken). FAILURE: it did not, or says it is overloaded (429), or something unexpected
    happened. IGNORED: a refusal on our own side, so it was never asked."""
    if isinstance(failure, PeerRefusal) and failure.status == _TOO_MANY_REQUESTS:
        return Verdict.FAILURE
    if isinstance(failure, RequestFailure):
        return Verdict.SUCCESS
    if isinstance(failure, Refusal | pybreaker.CircuitBreakerError):
        return Verdict.IGNORED
    if isinstance(failure, StoreFailure) and not isinstance(failure, StoreUnavailable):
        return Verdict.SUCCESS
    return Verdict.FAILURE
