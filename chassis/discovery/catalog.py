"""The embedded registry's services and their TTL checks.

A check that is not renewed within its TTL turns critical; a service that stays critical for its
`DeregisterCriticalServiceAfter` is taken out. Services live in memory only: their leases end
anyway, and who is alive registers again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from chassis.clock import Clock, Timer
from chassis.discovery.changes import Changes
from chassis.discovery.durations import seconds
from chassis.discovery.lowered import decoded
from chassis.errors import BadRequest

SERVICES = "services"
PASSING, WARNING, CRITICAL = "passing", "warning", "critical"
_REAP_FLOOR_S = 60.0


class CheckBody(msgspec.Struct):
    """A check as a client registers it, keys in lower case."""

    ttl: str = ""
    checkid: str = ""
    id: str = ""
    name: str = ""
    notes: str = ""
    status: str = CRITICAL
    deregistercriticalserviceafter: str = ""


class ServiceBody(msgspec.Struct):
    """A service as a client registers it, keys in lower case; Consul ignores their case too."""

    name: str
    id: str = ""
    address: str = ""
    port: int = 0
    tags: list[str] | None = None
    meta: dict[str, str] | None = None
    check: CheckBody | None = None
    checks: list[CheckBody] | None = None


class Check(msgspec.Struct, eq=False):
    """A live check."""

    id: str
    name: str
    notes: str
    service_id: str
    ttl_s: float
    reap_s: float
    status: str
    output: str
    index: int
    timer: Timer | None = None


class Service(msgspec.Struct, eq=False):
    """A live service."""

    id: str
    name: str
    address: str
    port: int
    tags: list[str]
    meta: dict[str, str]
    created: int
    index: int
    checks: dict[str, Check]

    @property
    def passing(self) -> bool:
        return all(check.status == PASSING for check in self.checks.values())


class Catalog:
    """All services, by id."""

    def __init__(self, clock: Clock, changes: Changes) -> None:
        self._clock = clock
        self._changes = changes
        self.services: dict[str, Service] = {}
        self._named: dict[str, dict[str, Service]] = {}
        self._checks: dict[str, Check] = {}

    def named(self, name: str) -> list[Service]:
        return sorted(self._named.get(name, {}).values(), key=lambda service: service.id)

    def names(self) -> dict[str, list[str]]:
        """Service names and the tags seen on any of their instances."""
        tags: dict[str, set[str]] = {}
        for service in self.services.values():
            tags.setdefault(service.name, set()).update(service.tags)
        return {name: sorted(tags[name]) for name in sorted(tags)}

    def checks(self) -> Iterable[Check]:
        return self._checks.values()

    def register(self, body: bytes) -> None:
        """Enters or replaces a service; `BadRequest` says what is wrong with the body."""
        wanted = decoded(body, ServiceBody, "service definition")
        service_id = wanted.id or wanted.name
        old = self.services.get(service_id)
        index = self._changes.next()
        service = Service(
            id=service_id,
            name=wanted.name,
            address=wanted.address,
            port=wanted.port,
            tags=wanted.tags or [],
            meta=wanted.meta or {},
            created=index if old is None else old.created,
            index=index,
            checks={},
        )
        for check in _checks(wanted, service_id, index):
            service.checks[check.id] = check
        self._replace(old, service)

    def deregister(self, service_id: str) -> bool:
        """False when there is no such service."""
        service = self.services.get(service_id)
        if service is None:
            return False
        self._forget(service)
        self._announce(self._changes.next(), service)
        return True

    def beat(self, check_id: str, status: str, output: str) -> bool:
        """A client says how its check stands; False when there is no such check."""
        check = self._checks.get(check_id)
        if check is None:
            return False
        check.output = output
        self._set(check, status)
        return True

    def close(self) -> None:
        for service in self.services.values():
            self._stop(service)

    def _replace(self, old: Service | None, service: Service) -> None:
        if old is not None:
            self._forget(old)
        self.services[service.id] = service
        self._named.setdefault(service.name, {})[service.id] = service
        for check in service.checks.values():
            self._checks[check.id] = check
            self._arm(check)
        self._announce(service.index, *([service] if old is None else [old, service]))

    def _set(self, check: Check, status: str) -> None:
        changed = check.status != status
        check.status = status
        self._arm(check)
        if changed:
            service = self.services[check.service_id]
            check.index = service.index = self._changes.next()
            self._announce(check.index, service)

    def _arm(self, check: Check) -> None:
        """The next thing that happens to a check which nobody renews."""
        if check.timer is not None:
            check.timer.cancel()
            check.timer = None
        if check.status != CRITICAL:
            check.timer = self._clock.call_later(check.ttl_s, self._expire, check)
        elif check.reap_s:
            check.timer = self._clock.call_later(check.reap_s, self.deregister, check.service_id)

    def _expire(self, check: Check) -> None:
        check.output = "TTL expired"
        self._set(check, CRITICAL)

    def _forget(self, service: Service) -> None:
        self._stop(service)
        del self.services[service.id]
        same = self._named[service.name]
        del same[service.id]
        if not same:
            del self._named[service.name]
        for check in service.checks.values():
            if self._checks.get(check.id) is check:
                del self._checks[check.id]

    @staticmethod
    def _stop(service: Service) -> None:
        for check in service.checks.values():
            if check.timer is not None:
                check.timer.cancel()

    def _announce(self, index: int, *services: Service) -> None:
        self._changes.happened(index, SERVICES, *{topic(service.name) for service in services})


def topic(service: str) -> str:
    """The change topic of one service's instances."""
    return f"service/{service}"


def _checks(wanted: ServiceBody, service_id: str, index: int) -> Iterator[Check]:
    bodies = [*([wanted.check] if wanted.check else []), *(wanted.checks or [])]
    for number, body in enumerate(bodies, 1):
        if not body.ttl:
            raise BadRequest("only TTL checks run here: give the check a ttl, for example 10s")
        if body.status not in (PASSING, WARNING, CRITICAL):
            raise BadRequest(f"a check is passing, warning or critical, not {body.status!r}")
        standard = f"service:{service_id}" + (f":{number}" if len(bodies) > 1 else "")
        reap = body.deregistercriticalserviceafter
        yield Check(
            id=body.checkid or body.id or standard,
            name=body.name or f"Service '{wanted.name}' check",
            notes=body.notes,
            service_id=service_id,
            ttl_s=seconds(body.ttl),
            reap_s=max(_REAP_FLOOR_S, seconds(reap)) if reap else 0.0,
            status=body.status,
            output="",
            index=index,
        )
