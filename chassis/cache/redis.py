"""The cache on a Redis server.

Values and quotas are keys of their own beginnings. A quota is one script, which takes the time
from Redis: however far the clocks of those who ask are apart, the bucket is refilled once.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote

import msgspec
from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from chassis.cache.cache import check, check_quota
from chassis.cache.quota import Grant, Quota
from chassis.errors import ConfigurationFault, StagedoorError, StoreUnavailable
from chassis.urls import ENCODE, parts_of

T = TypeVar("T")

TIMEOUT_S = 0.05
CONNECTIONS = 16
_WHAT = "the cache URL"
_EXAMPLE = "redis://:password@127.0.0.1:6379/0"
_WRITE = f"write it as in {_EXAMPLE}, with ?timeout_s=0.05, or rediss://…?ca=file, if need be"
_VALUE = "stagedoor:v:"
_QUOTA = "stagedoor:q:"
_LEASE = """
local per_s, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local wanted, least = tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local held = redis.call('HMGET', KEYS[1], 'level', 'at')
local level, at = tonumber(held[1]) or burst, tonumber(held[2]) or now
local passed = math.max(0, now - at)
level = math.min(burst, level + passed * per_s / 1000000)
local tokens, wait = math.min(wanted, math.floor(level)), 0
if tokens < least then
  tokens, wait = 0, math.ceil((least - level) / per_s * 1000000)
end
level = level - tokens
redis.call('HSET', KEYS[1], 'level', string.format('%.17g', level),
           'at', string.format('%.0f', at + passed))
redis.call('PEXPIRE', KEYS[1], math.ceil((burst - level) / per_s * 1000) + 1000)
return {tokens, wait}
"""


class RedisPlace(msgspec.Struct, frozen=True):
    """Which server. The password is in no text of it."""

    host: str
    port: int
    db: int
    user: str | None
    password: str | None
    tls: bool
    timeout_s: float
    ca: str = ""

    def __repr__(self) -> str:
        return f"Redis at {self.host}:{self.port}/{self.db}"

    @classmethod
    def parse(cls, url: str) -> RedisPlace:
        """`ConfigurationFault` shows how to write one, and nothing of the password."""
        parts = parts_of(url, ENCODE, _WRITE, what=_WHAT)
        host, options = None, dict[str, str]()
        try:
            host = parts.hostname
            options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
            timeout_s = float(options.pop("timeout_s", str(TIMEOUT_S)))
            ca = options.pop("ca", "") if parts.scheme == "rediss" else ""
            db = int(parts.path.strip("/") or "0")
            port = parts.port or 6379
        except ValueError:
            timeout_s, db, port, ca = -1.0, -1, 0, ""
        if timeout_s <= 0 or db < 0 or not host or options:
            raise ConfigurationFault([_WRITE], what=_WHAT)
        return cls(
            host,
            port,
            db,
            unquote(parts.username) if parts.username else None,
            unquote(parts.password) if parts.password else None,
            parts.scheme == "rediss",
            timeout_s,
            ca,
        )


class RedisCache:
    """The cache port on Redis 5 or later. `timeout_s` bounds each call; nothing is repeated.

    It connects when it is first asked, and again whenever the connection is gone.
    """

    def __init__(self, place: RedisPlace) -> None:
        self._place = place
        self._redis = Redis(connection_pool=_pool(place))
        self._lease = self._redis.register_script(_LEASE)
        self._closed = False

    @classmethod
    def open(cls, url: str) -> RedisCache:
        return cls(RedisPlace.parse(url))

    def __repr__(self) -> str:
        return f"RedisCache({self._place})"

    async def get(self, key: str) -> bytes | None:
        check(key)
        found: bytes | None = await self._do(lambda: self._redis.get(_VALUE + key))
        return found

    async def put(self, key: str, value: bytes, ttl_s: float, *, absent: bool = False) -> bool:
        check(key, value=value, ttl_s=ttl_s)
        px = math.ceil(ttl_s * 1000)
        return bool(await self._do(lambda: self._redis.set(_VALUE + key, value, px=px, nx=absent)))

    async def delete(self, key: str) -> bool:
        check(key)
        return bool(await self._do(lambda: self._redis.delete(_VALUE + key)))

    async def lease(self, key: str, quota: Quota, wanted: int, least: int = 1) -> Grant:
        check_quota(key, quota, wanted, least)
        arguments = (repr(quota.per_s), quota.burst, wanted, least)
        tokens, wait_us = await self._do(lambda: self._lease([_QUOTA + key], arguments))
        return Grant(tokens, wait_us / 1e6)

    async def close(self) -> None:
        self._closed = True
        await self._redis.aclose()
        await self._redis.connection_pool.aclose()

    async def _do(self, call: Callable[[], Awaitable[Any]]) -> Any:
        if self._closed:
            raise StoreUnavailable(f"{self._place}: this cache is closed")
        task = asyncio.current_task()
        assert task is not None
        cancelled = task.cancelling()
        try:
            async with asyncio.timeout(2 * self._place.timeout_s):  # a turn in the pool, an answer
                done = await call()
        except (RedisError, OSError) as fault:
            raise self._translated(fault) from fault
        if task.cancelling() > cancelled:  # `wait_for`, in the driver, may lose it in Python 3.11
            raise asyncio.CancelledError
        return done

    def _translated(self, fault: Exception) -> StagedoorError:
        text = str(fault)
        if isinstance(fault, AuthenticationError | NoPermissionError) or "NOAUTH" in text:
            return ConfigurationFault(
                [f"{self._place} refuses the password or what its user may do: {_EXAMPLE}"],
                what=_WHAT,
            )
        if "DB index" in text or "SELECT is not allowed" in text:
            return ConfigurationFault(
                [f"{self._place} has no database {self._place.db}: {text}: most have 0 to 15"],
                what=_WHAT,
            )
        if "CERTIFICATE_VERIFY_FAILED" in text or isinstance(fault.__cause__, FileNotFoundError):
            return ConfigurationFault(
                [
                    f"{self._place} has no certificate that we trust for {self._place.host}:"
                    " write rediss://…?ca=/its/authority.pem and the name that it is made out to"
                ],
                what=_WHAT,
            )
        if isinstance(fault, TimeoutError) or "imeout" in text:
            text = f"no answer within {self._place.timeout_s:g} s"
        return StoreUnavailable(f"{self._place}: {text[:200]}: is it running?")


def _pool(place: RedisPlace) -> BlockingConnectionPool:
    more: dict[str, Any] = {"connection_class": Connection}
    if place.tls:
        more = {
            "connection_class": SSLConnection,
            "ssl_cert_reqs": ssl.CERT_REQUIRED,
            "ssl_check_hostname": True,
            "ssl_ca_certs": place.ca or None,
        }
    return BlockingConnectionPool(
        max_connections=CONNECTIONS,
        timeout=place.timeout_s,
        host=place.host,
        port=place.port,
        db=place.db,
        username=place.user,
        password=place.password,
        socket_timeout=place.timeout_s,
        socket_connect_timeout=place.timeout_s,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        **more,
    )
