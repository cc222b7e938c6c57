"""Slow hashes of passwords and PINs: argon2id in threads, so that the loop never waits for one.

Parameters are OWASP's first recommendation for argon2id (19 MiB, two passes, one lane): some 20 ms
of one core each. At most `workers` run at once, each holding 19 MiB; beyond `waiting` callers the
rest are shed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from chassis.clock import Clock
from chassis.errors import Shed

T = TypeVar("T")
_SALT_BYTES = 16


class HashCost(msgspec.Struct, frozen=True, kw_only=True):
    """What one hash takes. Tests lower it."""

    passes: int = 2
    memory_kib: int = 19 * 1024
    workers: int = 2
    waiting: int = 64


class Passwords:
    """Hashes and verifies. A hash names its own parameters, so they can be raised later."""

    def __init__(
        self, clock: Clock, cost: HashCost | None = None, *, hasher: PasswordHasher | None = None
    ) -> None:
        cost = cost or HashCost()
        self._clock = clock
        self._hasher = hasher or PasswordHasher(
            time_cost=cost.passes, memory_cost=cost.memory_kib, parallelism=1
        )
        self._threads = ThreadPoolExecutor(cost.workers, thread_name_prefix="passwords")
        self._limit = cost.workers + cost.waiting
        self._in_use = 0
        self._decoy: str | None = None

    def __repr__(self) -> str:
        return f"Passwords(in_use={self._in_use}, limit={self._limit})"

    async def hash(self, secret: str) -> str:
        salt = self._clock.entropy(_SALT_BYTES)
        return await self._run(lambda: self._hasher.hash(secret, salt=salt))

    async def verify(self, hashed: str | None, secret: str) -> bool:
        """Whether `secret` is the one hashed. Without a hash it is False after the same work."""
        if hashed is None:
            if self._decoy is None:
                self._decoy = await self.hash(self._clock.entropy(_SALT_BYTES).hex())
            await self._run(lambda: self._matches(self._decoy or "", secret))
            return False
        return await self._run(lambda: self._matches(hashed, secret))

    def is_dated(self, hashed: str) -> bool:
        """Whether the hash was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(hashed)

    def _matches(self, hashed: str, secret: str) -> bool:
        try:
            return self._hasher.verify(hashed, secret)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        if self._in_use >= self._limit:
            raise Shed("too many passwords are being checked; try again", retry_after_s=1.0)
        self._in_use += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._in_use -= 1

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
