"""The Consul adapter: py-consul builds every request and reads every answer, `consul_shell` carries
them. The same adapter talks to a real Consul and to `embedded.RegistryServer`.

A token comes from `CONSUL_HTTP_TOKEN` in the environment unless one is given.

Docs: https://developer.hashicorp.com/consul/api-docs (blocking queries: features/blocking).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

from consul.exceptions import ACLDisabled, ACLPermissionDenied, ConsulException

from chassis.clock import Clock
from chassis.discovery.address import Address
from chassis.discovery.consul_leases import ConsulRegistration, ConsulSession, checked, duration
from chassis.discovery.consul_shell import Client, Consul, HTTPClient
from chassis.discovery.registry import (
    DEFAULT_TTL_S,
    DEFAULT_WAIT_S,
    LOCK_DELAY_S,
    SESSION_TTL_S,
    Instance,
    KeyValue,
)
from chassis.errors import Faulty, OriginFailure, Refusal, StoreUnavailable

_ITSELF = "consul"


class ConsulRegistry:
    """The `Registry` port over a Consul agent."""

    def __init__(
        self, address: Address, *, client: Client, clock: Clock, token: str | None
    ) -> None:
        self.address = f"{address.host}:{address.port}"
        self.prefix = address.prefix
        http = HTTPClient(address.scheme, address.host, address.port, client, clock)
        self.consul = Consul(http, token)
        self._clock = clock
        self._registrations: set[ConsulRegistration] = set()
        self._sessions: weakref.WeakSet[ConsulSession] = weakref.WeakSet()

    async def register(
        self, instance: Instance, *, ttl_s: float = DEFAULT_TTL_S
    ) -> ConsulRegistration:
        registration = ConsulRegistration(self, instance, ttl_s, self._clock)
        await registration.enter()
        self._registrations.add(registration)
        registration.start(self._registrations.discard)
        return registration

    async def instances(
        self, service: str, *, index: int = 0, wait_s: float = DEFAULT_WAIT_S
    ) -> tuple[int, list[Instance]]:
        with self.translated():
            answered, found = await self.consul.health.service(
                self.prefix + service, index=index, wait=duration(wait_s), passing=True
            )
            instances = (_instance(entry, self.prefix) for entry in found or ())
            return int(answered), sorted(instances, key=lambda one: one.id)

    async def services(
        self, *, index: int = 0, wait_s: float = DEFAULT_WAIT_S
    ) -> tuple[int, list[str]]:
        with self.translated():
            answered, found = await self.consul.catalog.services(index=index, wait=duration(wait_s))
            ours = {one for one in found or () if one.startswith(self.prefix)} - {_ITSELF}
            return int(answered), sorted(one.removeprefix(self.prefix) for one in ours)

    async def kv_get(
        self, key: str, *, index: int = 0, wait_s: float = DEFAULT_WAIT_S
    ) -> tuple[int, KeyValue | None]:
        with self.translated():
            answered, found = await self.consul.kv.get(
                self.prefix + checked(key), index=index, wait=duration(wait_s)
            )
            return int(answered), None if found is None else _key_value(found, self.prefix)

    async def kv_list(
        self, prefix: str, *, index: int = 0, wait_s: float = DEFAULT_WAIT_S
    ) -> tuple[int, list[KeyValue]]:
        with self.translated():
            answered, found = await self.consul.kv.get(
                self.prefix + checked(prefix), index=index, wait=duration(wait_s), recurse=True
            )
            values = (_key_value(entry, self.prefix) for entry in found or ())
            return int(answered), sorted(values, key=lambda one: one.key)

    async def kv_put(self, key: str, value: bytes, *, cas: int | None = None) -> bool:
        with self.translated():
            return bool(await self.consul.kv.put(self.prefix + checked(key, value), value, cas=cas))

    async def kv_delete(self, key: str, *, cas: int | None = None) -> bool:
        with self.translated():
            return bool(await self.consul.kv.delete(self.prefix + checked(key), cas=cas))

    async def session(
        self,
        name: str,
        *,
        ttl_s: float = SESSION_TTL_S,
        lock_delay_s: float = LOCK_DELAY_S,
        ephemeral: bool = False,
    ) -> ConsulSession:
        if not (10 <= ttl_s <= 86_400 and 0 <= lock_delay_s <= 60):
            raise Faulty("a session's TTL is from 10 to 86,400 s, its lock delay from 0 to 60 s")
        asked = self._clock.monotonic()
        with self.translated():
            session_id = await self.consul.session.create(
                self.prefix + name,
                ttl=math.ceil(ttl_s),
                lock_delay=lock_delay_s,
                behavior="delete" if ephemeral else "release",
            )
        session = ConsulSession(self, str(session_id), ttl_s, asked, self._clock)
        self._sessions.add(session)
        return session

    async def leader(self) -> str:
        with self.translated():
            leader = str(await self.consul.status.leader() or "")
        if not leader:
            raise self._unavailable("has no leader at this moment")
        return leader

    async def close(self) -> None:
        leases: set[ConsulRegistration | ConsulSession] = {*self._registrations, *self._sessions}
        await asyncio.gather(*(lease.stop() for lease in leases))
        await self.consul.http.close()

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Turns what the libraries raise into `StoreUnavailable`."""
        try:
            yield
        except (ACLDisabled, ACLPermissionDenied) as fault:
            raise self._unavailable(
                f"refused the token ({fault}): set CONSUL_HTTP_TOKEN to one that may do this"
            ) from fault
        except ConsulException as fault:
            raise self._unavailable(f"answered {fault}") from fault
        except (OriginFailure, Refusal) as fault:
            raise self._unavailable(f"cannot be reached: {fault or fault.code}") from fault
        except (KeyError, TypeError, ValueError) as fault:
            raise self._unavailable(f"answered what cannot be read: {fault!r}") from fault

    def _unavailable(self, what: str) -> StoreUnavailable:
        return StoreUnavailable(f"the registry at {self.address} {what}")

    def __repr__(self) -> str:
        return f"ConsulRegistry({self.address}, {len(self._registrations)} registered)"


def _instance(entry: Mapping[str, Any], prefix: str) -> Instance:
    service = entry["Service"]
    return Instance(
        id=service["ID"].removeprefix(prefix),
        service=service["Service"].removeprefix(prefix),
        host=service["Address"] or entry["Node"]["Address"],
        port=service["Port"],
        meta=service.get("Meta") or {},
    )


def _key_value(entry: Mapping[str, Any], prefix: str) -> KeyValue:
    return KeyValue(
        entry["Key"].removeprefix(prefix),
        entry["Value"] or b"",
        entry["ModifyIndex"],
        entry.get("Session", ""),
    )
