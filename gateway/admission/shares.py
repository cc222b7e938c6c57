"""One worker's share of a quota that all workers spend from. Pure: the time is an argument.

Tokens are leased in batches and spent without asking anybody. A request that finds none does not
wait for a lease either: unless the quota is known to be empty it is served on credit, one batch at
most, and the next lease pays that back. So over any time all workers together serve what the quota
gave, and at an instant at most one batch a worker more.
"""

from __future__ import annotations

import math

from gateway.rules.model import RateLimit

BATCH_S = 0.1
LEASE_S = 1.0
PAUSE_S = 0.05


def batch_of(limit: RateLimit) -> int:
    """How many tokens are leased at once: a quarter of the burst, or what a tenth of a second
    refills if that is more."""
    wanted = max(limit.per_s * BATCH_S, limit.burst / 4, limit.cost)
    return min(math.ceil(wanted), max(limit.burst, limit.cost))


class Share:
    """The tokens leased for one key and not spent; below zero is what was served on credit."""

    __slots__ = ("asked", "empty_until", "lapses", "tokens")

    def __init__(self) -> None:
        self.tokens = 0
        self.lapses = 0.0
        self.empty_until = 0.0
        self.asked = False

    def take(self, limit: RateLimit, batch: int, now: float) -> float:
        """0 when the cost was taken, else the seconds until it may be there."""
        if self.tokens > 0 and now >= self.lapses:
            self.tokens = 0
        left = self.tokens - limit.cost
        if left < 0 and now < self.empty_until:
            return max(self.empty_until - now, -left / limit.per_s)
        if left < -max(batch, limit.cost):
            return 1 / limit.per_s
        self.tokens = left
        return 0.0

    def wanted(self, batch: int, now: float) -> int:
        """How many tokens to ask for now; 0 when there is no need, or an answer is awaited."""
        if self.asked or now < self.empty_until or 2 * self.tokens > batch:
            return 0
        return batch - self.tokens

    def granted(
        self, tokens: int, wanted: int, retry_after_s: float, per_s: float, now: float
    ) -> None:
        """The answer. Fewer than wanted are all there were."""
        self.asked = False
        self.tokens += tokens
        self.lapses = now + LEASE_S
        if tokens < wanted:
            self.empty_until = now + max(retry_after_s or 1 / per_s, PAUSE_S)
