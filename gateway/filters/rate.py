"""The rule's rate limit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from chassis.clock import Clock
from gateway.admission import RateLimiter
from gateway.filters.chain import Filter

if TYPE_CHECKING:
    from gateway.exchange import Exchange

Key = Callable[["Exchange"], str]


class LimitRate(Filter):
    """Takes from the bucket of whoever asks; a caller without the key shares one with its like."""

    name = "rate"
    order = -700

    def __init__(self, limiter: RateLimiter, clock: Clock) -> None:
        self._limiter = limiter
        self._clock = clock
        self._key = key_of(limiter.limit.key)

    def apply(self, exchange: Exchange) -> None:
        self._limiter.take(self._key(exchange), self._clock.monotonic())


def key_of(name: str) -> Key:
    """How the value of `client`, `account`, `device`, `api_key` or `header:NAME` is read."""
    if name == "client":
        return lambda exchange: exchange.client
    if name == "account":
        return lambda exchange: exchange.caller.subject if exchange.caller else exchange.client
    if name == "device":
        return lambda exchange: str((exchange.claims or {}).get("device_id", exchange.client))
    header = b"x-api-key" if name == "api_key" else name.partition(":")[2].lower().encode()
    return lambda exchange: _header(exchange, header)


def _header(exchange: Exchange, name: bytes) -> str:
    for field, value in exchange.headers:
        if field == name:
            return value.decode("latin-1")
    return ""
