"""All pools of one process's client: one per scheme, host and port, made when first asked for."""

from __future__ import annotations

import ssl

from chassis.clock import SYSTEM, Clock
from chassis.http.pool import Address, Pool, PoolLimits


class Pools:
    """Shared by `Client` and `Transport`. Without `tls`, https trusts what the system trusts."""

    def __init__(
        self,
        *,
        limits: PoolLimits | None = None,
        tls: ssl.SSLContext | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.limits = limits or PoolLimits()
        self.clock = clock
        self._tls = tls
        self._pools: dict[tuple[bool, str, int], Pool] = {}

    def __repr__(self) -> str:
        return f"Pools({list(self._pools.values())!r})"

    def get(self, secure: bool, host: str, port: int) -> Pool:
        """The pool of one address."""
        key = (secure, host, port)
        pool = self._pools.get(key)
        if pool is None:
            address = Address(host, port, self._context() if secure else None)
            pool = self._pools[key] = Pool(address, self.limits, clock=self.clock)
        return pool

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls

    async def close(self) -> None:
        """Closes every pool; see `Pool.close`."""
        for pool in self._pools.values():
            await pool.close()
        self._pools.clear()
