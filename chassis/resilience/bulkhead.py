"""A fixed share of concurrency, so that one slow callee cannot take every place there is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from msgspec import Struct

from chassis.clock import SYSTEM, Clock
from chassis.errors import ConfigurationFault
from chassis.resilience.refusals import BulkheadFull, Reason

T = TypeVar("T")


class BulkheadConfig(Struct, frozen=True):
    """`limit` calls at once."""

    limit: int = 64

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ConfigurationFault(["limit must be at least 1"], what="the bulkhead")


class Bulkhead:
    """The gate; `in_flight` is open to the policies that fuse it in."""

    __slots__ = ("_monotonic", "in_flight", "limit", "name", "reason", "rejected")

    def __init__(self, name: str, config: BulkheadConfig, clock: Clock = SYSTEM) -> None:
        self.name = name
        self.limit = config.limit
        self.in_flight = 0
        self.rejected = 0
        self.reason = Reason("bulkhead", name, f"all {config.limit} places are taken", "full")
        self._monotonic = clock.monotonic

    async def call(self, fn: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Awaits `fn` in a place of its own; `BulkheadFull` when none is free."""
        if self.in_flight >= self.limit:
            raise self.refused(self._monotonic())
        self.in_flight += 1
        try:
            return await fn(*args)
        finally:
            self.in_flight -= 1

    def refused(self, now: float) -> BulkheadFull:
        self.rejected += 1
        return BulkheadFull(self.reason, now)

    def __repr__(self) -> str:
        return f"Bulkhead({self.name}: {self.in_flight} of {self.limit} in flight)"
