"""The registry port: who serves what, and a small key-value store beside it.

Reads return the index they were answered at. Called with that index again they block until
something newer exists or `wait_s` has passed, so a caller learns of a change as it happens
without polling. An index of 0 answers at once.

Every method raises `StoreUnavailable` when the registry cannot be reached or cannot answer now.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct, field

DEFAULT_TTL_S = 3.0
DEFAULT_WAIT_S = 30.0


class Instance(Struct, frozen=True):
    """One address of a service. `meta` knows `admin` ("host:port") and `version`."""

    id: str
    service: str
    host: str
    port: int
    meta: dict[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """`host:port`, an IPv6 host in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class KeyValue(Struct, frozen=True):
    """A stored value. `index` is its last change: the `cas` of the next `kv_put`."""

    key: str
    value: bytes
    index: int


class Registration(Protocol):
    """An instance kept alive in the registry by heartbeats until it is taken out."""

    @property
    def instance(self) -> Instance: ...

    async def deregister(self) -> None:
        """Stops the heartbeats and takes the instance out; safe to call twice."""
        ...


class Registry(Protocol):
    """Service instances under leases, and keys with compare-and-set."""

    async def register(self, instance: Instance, *, ttl_s: float = DEFAULT_TTL_S) -> Registration:
        """Enters `instance` as passing and renews its lease every third of `ttl_s`.

        Returns once the registry has it. Registers again by itself when the registry forgot it.
        """
        ...

    async def instances(
        self, service: str, *, index: int = 0, wait_s: float = DEFAULT_WAIT_S
    ) -> tuple[int, list[Instance]]:
        """The passing instances of `service`, ordered by id."""
        ...

    async def services(
        self, *, index: int = 0, wait_s: float = DEFAULT_WAIT_S
    ) -> tuple[int, list[str]]:
        """The names of all registered services, sorted."""
        ...

    async def kv_get(
        self, key: str, *, index: int = 0, wait_s: float = DEFAULT_WAIT_S
    ) -> tuple[int, KeyValue | None]: ...

    async def kv_list(
        self, prefix: str, *, index: int = 0, wait_s: float = DEFAULT_WAIT_S
    ) -> tuple[int, list[KeyValue]]:
        """Every key that starts with `prefix`, sorted by key."""
        ...

    async def kv_put(self, key: str, value: bytes, *, cas: int | None = None) -> bool:
        """Durable when it returns True. With `cas` only if the key's index still is that; 0: only
        if there is no such key. False when it lost."""
        ...

    async def kv_delete(self, key: str, *, cas: int | None = None) -> bool:
        """With `cas` only if the key's index still is that; False when it lost."""
        ...

    async def leader(self) -> str:
        """The address of the registry's leader; a cheap way to ask whether it is there."""
        ...

    async def close(self) -> None:
        """Ends heartbeats (without deregistering) and closes connections."""
        ...
