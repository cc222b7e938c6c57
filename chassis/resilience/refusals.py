"""What the gates of this package raise when they refuse a call.

A refusal is raised on the hottest path there is, an overloaded one, so nothing is put into words
before somebody reads them: the exception keeps one frozen `Reason` and the time, and its
properties make the rest. (A constructor written in Python would double what a refusal costs.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pybreaker
from msgspec import Struct

from chassis import errors


class Reason(Struct, frozen=True):
    """Why calls are refused now, by whom, until when on the monotonic clock (None: not known)."""

    policy: str
    name: str
    reason: str
    state: str = ""
    generation: int = 0
    until: float | None = None


class _Lazy:
    """The properties of a refusal, from its arguments `(Reason, now)`."""

    args: tuple[Any, ...]

    @property
    def why(self) -> Reason:
        reason: Reason = self.args[0]
        return reason

    @property
    def policy(self) -> str:
        return self.why.policy

    @property
    def reason(self) -> str:
        return self.why.reason

    @property
    def state(self) -> str:
        return self.why.state

    @property
    def generation(self) -> int:
        return self.why.generation

    @property
    def detail(self) -> str:
        return f"{self.why.policy} of {self.why.name}: {self.why.reason}"

    @property
    def retry_after_s(self) -> float | None:
        until = self.why.until
        return None if until is None else max(0.0, until - self.args[1])

    @property
    def members(self) -> Mapping[str, Any]:
        why = self.why
        return {
            "policy": why.policy,
            "reason": why.reason,
            "state": why.state,
            "generation": why.generation,
        }

    def __str__(self) -> str:
        return self.detail


class BreakerOpen(_Lazy, errors.BreakerOpen, pybreaker.CircuitBreakerError):  # type: ignore[override]
    """The breaker does not let this call through; users of pybreaker may catch its own error."""

    if TYPE_CHECKING:

        def __init__(self, reason: Reason, now: float) -> None: ...
    else:
        __init__ = Exception.__init__


class BulkheadFull(_Lazy, errors.BulkheadFull):  # type: ignore[override]
    """All of the bulkhead's places are taken."""

    if TYPE_CHECKING:

        def __init__(self, reason: Reason, now: float) -> None: ...
    else:
        __init__ = Exception.__init__
