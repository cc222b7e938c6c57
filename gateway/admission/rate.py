"""Rate limits: one token bucket a key, refilled by time passed. Pure: the time is an argument."""

from __future__ import annotations

from collections import OrderedDict

from chassis.errors import RateLimited
from gateway.rules.model import RateLimit

KEYS = 100_000


class TokenBucket:
    """Starts full; `take` refills for the time since the last take."""

    __slots__ = ("at", "tokens")

    def __init__(self, tokens: float, at: float) -> None:
        self.tokens = tokens
        self.at = at

    def take(self, cost: float, per_s: float, burst: float, now: float) -> float:
        """0 when `cost` was taken, else the seconds until there will be enough."""
        self.tokens = min(burst, self.tokens + (now - self.at) * per_s)
        self.at = now
        if self.tokens >= cost:
            self.tokens -= cost
            return 0.0
        return (cost - self.tokens) / per_s


class RateLimiter:
    """The buckets of one limit by key; the key that was idle longest makes room for a new one."""

    def __init__(self, limit: RateLimit, *, keys: int = KEYS) -> None:
        self.limit = limit
        self._keys = keys
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: str, now: float, parts: int = 1) -> None:
        """Takes the cost of one request; `RateLimited` says when to come back.

        The bucket is one of `parts` equal ones that the limit is divided over.
        """
        limit = self.limit
        burst = max(limit.burst / parts, min(limit.cost, limit.burst))
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(burst, now)
            if len(self._buckets) > self._keys:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        wait_s = bucket.take(limit.cost, limit.per_s / parts, burst, now)
        if wait_s:
            raise RateLimited("too many requests for this rule", retry_after_s=wait_s)
