"""Rate limits that all workers share, and each worker's own part of them while they cannot."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from chassis.cache import Grant, Quota, open_cache
from chassis.clock import Clock
from chassis.discovery.directory import Directory
from chassis.errors import RateLimited
from chassis.telemetry import Telemetry
from chassis.telemetry.metrics import Counter
from gateway.admission.rate import KEYS, RateLimiter
from gateway.admission.refills import Refills
from gateway.admission.shares import Share, batch_of
from gateway.rules.model import RateLimit

SERVICE = "gateway"


class Sharing:
    """What the shared limiters of a worker have in common.

    `workers` says over how many the limits are divided while the cache is away; `fallbacks` counts
    the requests that were decided so.
    """

    def __init__(
        self, refills: Refills, clock: Clock, workers: Callable[[], int], fallbacks: Counter
    ) -> None:
        self.refills = refills
        self.clock = clock
        self.workers = workers
        self.fallbacks = fallbacks

    @classmethod
    def open(cls, url: str, telemetry: Telemetry, directory: Directory | None) -> Sharing:
        """Over the cache at `url`; the gateways of the directory are the workers."""
        clock = telemetry.clock
        if directory is not None:
            directory.watch(SERVICE)
        fallbacks = telemetry.metrics.counter(
            "gateway_quota_fallback_total",
            "Requests whose rate limit was this worker's own part: the cache was away.",
        )
        return cls(
            Refills(open_cache(url, clock), clock, telemetry.log.say),
            clock,
            lambda: len(directory.instances(SERVICE)) or 1 if directory is not None else 1,
            fallbacks.child(),
        )


class SharedLimiter(RateLimiter):
    """The buckets of one limit, leased from the cache; nothing here waits."""

    def __init__(self, limit: RateLimit, sharing: Sharing, *, keys: int = KEYS) -> None:
        super().__init__(limit, keys=keys)
        self._sharing = sharing
        self._batch = batch_of(limit)
        # a credit never needs more at once than the bucket can hold
        self._quota = Quota(limit.per_s, max(limit.burst, limit.cost))
        self._shares: OrderedDict[str, Share] = OrderedDict()

    def take(self, key: str, now: float, parts: int = 1) -> None:
        sharing = self._sharing
        if sharing.refills.away:
            sharing.fallbacks.n += 1
            return super().take(key, now, sharing.workers())
        share = self._share(key)
        wait_s = share.take(self.limit, self._batch, now)
        wanted = share.wanted(self._batch, now)
        if wanted:
            share.asked = True
            name = name_of(self.limit, key)
            sharing.refills.ask(name, self._quota, wanted, partial(self._answer, share, wanted))
        if wait_s:
            raise RateLimited("too many requests for this rule", retry_after_s=wait_s)
        return None

    def _share(self, key: str) -> Share:
        share = self._shares.get(key)
        if share is None:
            share = self._shares[key] = Share()
            if len(self._shares) > self._keys:
                self._shares.popitem(last=False)
        else:
            self._shares.move_to_end(key)
        return share

    def _answer(self, share: Share, wanted: int, grant: Grant | None) -> None:
        if grant is None:
            share.asked = False
            return
        now = self._sharing.clock.monotonic()
        share.granted(grant.tokens, wanted, grant.retry_after_s, self.limit.per_s, now)


def name_of(limit: RateLimit, key: str) -> str:
    """What a bucket is called in the cache: equal limits are one, and no key is readable there."""
    told = f"{limit.key} {limit.per_s!r} {limit.burst} {limit.cost} {key}"
    return "rate:" + hashlib.blake2b(told.encode(), digest_size=16).hexdigest()
