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
SESSION_TTL_S = 10.0
"""The shortest that Consul takes."""
LOCK_DELAY_S = 5.0
"""Longer than the next renewal takes to learn that the session was ended."""
LARGEST_VALUE = 512 * 1024
"""Bytes under one key."""


class Instance(Struct, frozen=True):
    """One address of a service. `meta` knows `admin` ("host:port"), `version` and `pid`."""

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
    """A stored value. `index` is its last change: the `cas` of the next `kv_put`. `session` is the
    id of the one that holds the key; empty when none does."""

    key: str
    value: bytes
    index: int
    session: str = ""


class Registration(Protocol):
    """An instance kept alive in the registry by heartbeats until it is taken out."""

    @property
    def instance(self) -> Instance: ...

    async def deregister(self) -> None:
        """Stops the heartbeats and takes the instance out; safe to call twice."""
        ...


class Session(Protocol):
    """The right to hold keys, renewed every third of its TTL until it is closed or lost.

    Of all sessions that ask for a key one has it. Writes are not kept from the key: holding it only
    decides. When a session is lost its keys are given on no earlier than its lock delay after that;
    until then whoever held one has to have stopped what it allowed.
    """

    @property
    def id(self) -> str: ...

    @property
    def is_lost(self) -> bool:
        """The registry ended it, or took no renewal for a whole TTL; or it was closed."""
        ...

    async def lost(self) -> None:
        """Returns as soon as it is lost."""
        ...

    async def acquire(self, key: str, value: bytes = b"") -> bool:
        """Takes the key and writes it. False when another session holds it, or one lost it just
        now, or when this one is lost. True again for what it holds."""
        ...

    async def release(self, key: str, value: bytes = b"") -> bool:
        """Gives the key on at once and writes it; False when it was not held."""
        ...

    async def close(self) -> None:
        """Releases what it holds and ends it; safe to call twice. Where the registry cannot be told
        (`StoreUnavailable`) it ends by itself, within two TTLs."""
        ...


class Listing(Protocol):
    """Whoever knows the instances of services."""

    async def instances(
        self, service: str, *, index: int = 0, wait_s: float = DEFAULT_WAIT_S
    ) -> tuple[int, list[Instance]]:
        """The passing instances of `service`, ordered by id."""
        ...


class Registry(Listing, Protocol):
    """Service instances under leases, and keys with compare-and-set."""

    async def register(self, instance: Instance, *, ttl_s: float = DEFAULT_TTL_S) -> Registration:
        """Enters `instance` as passing and renews its lease every third of `ttl_s`.

        Returns once the registry has it. Registers again by itself when the registry forgot it.
        """
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
        if there is no such key. False when it lost. `Faulty` above `LARGEST_VALUE` bytes."""
        ...

    async def kv_delete(self, key: str, *, cas: int | None = None) -> bool:
        """With `cas` only if the key's index still is that; False when it lost."""
        ...

    async def session(
        self,
        name: str,
        *,
        ttl_s: float = SESSION_TTL_S,
        lock_delay_s: float = LOCK_DELAY_S,
        ephemeral: bool = False,
    ) -> Session:
        """A new session; `name` is for people. The keys of an `ephemeral` one are deleted when it
        ends. TTLs from 10 to 86,400 s, lock delays up to 60 s; `Faulty` otherwise."""
        ...

    async def leader(self) -> str:
        """The address of the registry's leader; a cheap way to ask whether it is there."""
        ...

    async def close(self) -> None:
        """Ends heartbeats (without deregistering) and closes connections."""
        ...
