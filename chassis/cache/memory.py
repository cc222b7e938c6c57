"""A cache in this process's memory: for one process, and for tests."""

from __future__ import annotations

from collections import OrderedDict

from chassis.cache.cache import check, check_quota
from chassis.cache.quota import Bucket, Grant, Quota
from chassis.clock import Clock
from chassis.errors import StoreUnavailable

BYTES = 64 << 20
BUCKETS = 100_000


class MemoryCache:
    """The cache port, bounded: what was written longest ago makes room."""

    def __init__(self, clock: Clock, *, capacity: int = BYTES, buckets: int = BUCKETS) -> None:
        self._clock = clock
        self._capacity = capacity
        self._most_buckets = buckets
        self._values: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self._size = 0
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()
        self._closed = False

    def __repr__(self) -> str:
        return f"MemoryCache({len(self._values)} values, {self._size} bytes)"

    async def get(self, key: str) -> bytes | None:
        check(key)
        self._check_open()
        return self._live(key)

    async def put(self, key: str, value: bytes, ttl_s: float, *, absent: bool = False) -> bool:
        check(key, value=value, ttl_s=ttl_s)
        self._check_open()
        if absent and self._live(key) is not None:
            return False
        self._drop(key)
        self._values[key] = (value, self._clock.monotonic() + ttl_s)
        self._size += len(key) + len(value)
        while self._size > self._capacity:
            self._drop(next(iter(self._values)))
        return True

    async def delete(self, key: str) -> bool:
        check(key)
        self._check_open()
        return self._live(key) is not None and self._drop(key)

    async def lease(self, key: str, quota: Quota, wanted: int, least: int = 1) -> Grant:
        check_quota(key, quota, wanted, least)
        self._check_open()
        now_us = int(self._clock.monotonic() * 1e6)
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(quota, now_us)
            if len(self._buckets) > self._most_buckets:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        return bucket.lease(quota, wanted, least, now_us)

    async def close(self) -> None:
        self._closed = True
        self._values.clear()
        self._buckets.clear()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("this cache is closed")

    def _live(self, key: str) -> bytes | None:
        value, until = self._values.get(key, (b"", -1.0))
        if until > self._clock.monotonic():
            return value
        self._drop(key)
        return None

    def _drop(self, key: str) -> bool:
        value, _ = self._values.pop(key, (None, 0.0))
        if value is None:
            return False
        self._size -= len(key) + len(value)
        return True
