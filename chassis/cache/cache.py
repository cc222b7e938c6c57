"""The cache port: small values that lapse, and quotas that many processes spend from.

What is in it may be lost at any time: nothing in it is the only copy of anything. Keys are up to
250 printable ASCII characters without a space, values up to 1 MB; others are a `BadRequest`.
"""

from __future__ import annotations

import re
from typing import Protocol

from chassis.cache.quota import Grant, Quota
from chassis.clock import SYSTEM, Clock
from chassis.errors import BadRequest, ConfigurationFault

KEY = re.compile(r"[!-~]{1,250}\Z")
VALUE_LIMIT = 1 << 20
TTL_LIMIT_S = 30 * 86400.0
TOKENS_LIMIT = 1 << 31


class Cache(Protocol):
    """Every method raises `StoreUnavailable` when the cache cannot do it now, within a bound.

    A caller that is cancelled does not know whether its write happened. Wrong credentials are a
    `ConfigurationFault` at the first call.
    """

    async def get(self, key: str) -> bytes | None:
        """The value; None when there is none, or none any more."""
        ...

    async def put(self, key: str, value: bytes, ttl_s: float, *, absent: bool = False) -> bool:
        """Keeps the value for `ttl_s`, to the millisecond; with `absent` only where there is none.
        Says whether it was kept."""
        ...

    async def delete(self, key: str) -> bool:
        """Says whether there was a value."""
        ...

    async def lease(self, key: str, quota: Quota, wanted: int, least: int = 1) -> Grant:
        """Up to `wanted` tokens of the quota under `key`, none when fewer than `least` are there.

        However many ask, never more are granted than the bucket held and was refilled with. All
        who share a key name the same quota.
        """
        ...

    async def close(self) -> None: ...


def check(key: str, *, value: bytes = b"", ttl_s: float = 1.0) -> None:
    """`BadRequest` says what may be kept, and how long."""
    if not KEY.match(key):
        raise BadRequest(f"cache key {key[:100]!r}: write 1 to 250 printable ASCII characters")
    if len(value) > VALUE_LIMIT:
        raise BadRequest(f"a value of {len(value)} bytes: {VALUE_LIMIT} at most are kept")
    if not 0.001 <= ttl_s <= TTL_LIMIT_S:
        raise BadRequest(f"a value lives for 0.001 to {TTL_LIMIT_S:.0f} seconds, not {ttl_s}")


def check_quota(key: str, quota: Quota, wanted: int, least: int) -> None:
    """`BadRequest` when no bucket could ever give what is asked for."""
    check(key)
    if not (quota.per_s > 0 and 1 <= quota.burst <= TOKENS_LIMIT):
        raise BadRequest(f"{quota}: a rate above 0 and a burst of 1 to {TOKENS_LIMIT} are needed")
    if not 1 <= least <= min(wanted, quota.burst):
        raise BadRequest(f"{least} tokens at least of {wanted}: a burst of {quota.burst} has none")


def open_cache(url: str, clock: Clock = SYSTEM) -> Cache:
    """The adapter that `url` names.

    `memory://`, which is each process's own, or `redis://[:password@]host:port/db` (`rediss://`
    with TLS; `?ca=` names a file of authorities to trust). Open it in the process that uses it: not
    before a fork.
    """
    scheme = url.partition("://")[0]
    if url == "memory://":
        from chassis.cache.memory import MemoryCache

        return MemoryCache(clock)
    if scheme in ("redis", "rediss"):
        from chassis.cache.redis import RedisCache

        return RedisCache.open(url)
    raise ConfigurationFault(
        [f"{scheme}://…: write memory:// or redis://[:password@]host:port/db"],
        what="the cache URL",
    )
