"""The embedded registry's services and their TTL checks.

A check that is not renewed within its TTL turns critical; a service that stays critical for its
`DeregisterCriticalServiceAfter` is taken out. Services live in memory only: their leases end
anyway, and who is alive registers again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from chassis.clock import Clock, Timer
from chassis.discovery.changes import Changes
from chassis.errors import BadRequest

SERVICES = "services"
PASSING, WARNING, CRITICAL = "passing", "warning", "critical"
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
_REAP_FLOOR_S = 60.0


def seconds(duration: str) -> float:
    """A Go duration ("1m30s", "1500ms") in seconds; `BadRequest` when it is none."""
    parts = _PART.findall(duration)
    if not parts or "".join(number + unit for number, unit in parts) != duration:
        raise BadRequest(f"{duration!r} is no duration; write for example 10s or 1m30s")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


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

    def named(self, name: str) -> list[Service]:
        found = (service for service in self.services.values() if service.name == name)
        return sorted(found, key=lambda service: service.id)

    def names(self) -> dict[str, list[str]]:
        """Service names and the tags seen on any of their instances."""
        tags: dict[str, set[str]] = {}
        for service in self.services.values():
            tags.setdefault(service.name, set()).update(service.tags)
        return {name: sorted(tags[name]) for name in sorted(tags)}

    def checks(self) -> Iterator[Check]:
        for service in self.services.values():
            yield from service.checks.values()

    def check(self, check_id: str) -> Check | None:
        return next((check for check in self.checks() if check.id == check_id), None)

    def register(self, body: bytes) -> None:
        """Enters or replaces a service; `BadRequest` says what is wrong with the body."""
        wanted = _decoded(body)
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
        service = self.services.pop(service_id, None)
        if service is None:
            return False
        self._stop(service)
        self._announce(self._changes.next(), service)
        return True

    def beat(self, check_id: str, status: str, output: str) -> bool:
        """A client says how its check stands; False when there is no such check."""
        check = self.check(check_id)
        if check is None:
            return False
        check.output = output
        self._set(check, status)
        return True

    def close(self) -> None:
        for service in self.services.values():
            self._stop(service)

    def _replace(self, old: Service | None, service: Service) -> None:
        self.services[service.id] = service
        if old is not None:
            self._stop(old)
        for check in service.checks.values():
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


def _decoded(body: bytes) -> ServiceBody:
    try:
        return msgspec.convert(_lowered(msgspec.json.decode(body)), ServiceBody)
    except (msgspec.DecodeError, msgspec.ValidationError) as fault:
        raise BadRequest(f"the service definition cannot be used: {fault}") from fault


def _lowered(value: Any) -> Any:
    """Field names in lower case, at every level but inside `meta`."""
    if isinstance(value, list):
        return [_lowered(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    low = {name.lower(): item for name, item in value.items()}
    return {name: item if name == "meta" else _lowered(item) for name, item in low.items()}


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
