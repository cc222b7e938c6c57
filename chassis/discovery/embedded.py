"""The embedded registry: an ASGI application that speaks Consul's HTTP API.

It offers the part of the API that a registry client needs: agent services and TTL checks, health
and catalog queries that block, keys with compare-and-set, and status. Clients cannot tell it from
a Consul agent in development mode. Reference: https://developer.hashicorp.com/consul/api-docs
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chassis.clock import SYSTEM, Clock
from chassis.discovery import keys
from chassis.discovery.catalog import (
    CRITICAL,
    PASSING,
    SERVICES,
    WARNING,
    Catalog,
    Check,
    Service,
    seconds,
    topic,
)
from chassis.discovery.changes import Changes
from chassis.errors import BadRequest

_NODE = "embedded"
_ADDRESS = "127.0.0.1"
_DATACENTER = "dc1"
_DEFAULT_WAIT_S = 300.0
_LONGEST_WAIT_S = 600.0
_LARGEST_VALUE = 512 * 1024


class RegistryServer:
    """One registry. Serve `asgi`; `close` lets blocked queries go before the listener stops.

    `state` is the directory of the durable keys; None keeps them in memory only.
    """

    def __init__(self, clock: Clock = SYSTEM, state: Path | None = None) -> None:
        entries = keys.load(state)
        newest = max((entry.modify_index for entry in entries.values()), default=0)
        self._clock = clock
        self._changes = Changes(clock, newest)
        self._keys = keys.Keys(self._changes, entries, state)
        self._catalog = Catalog(clock, self._changes)
        self.asgi = Starlette(
            routes=self._routes(),
            exception_handlers={BadRequest: _bad_request, OSError: _unwritable},
        )

    def close(self) -> None:
        """Answers every blocked query with what there is, and stops all timers."""
        self._changes.close()
        self._catalog.close()

    def _routes(self) -> list[Route]:
        def get(path: str, handle: Callable[[Request], Awaitable[Response]]) -> Route:
            return Route(path, handle, methods=["GET"])

        def put(path: str, handle: Callable[[Request], Awaitable[Response]]) -> Route:
            return Route(path, handle, methods=["PUT"])

        return [
            get("/v1/status/leader", self._leader),
            get("/v1/status/peers", self._peers),
            get("/v1/agent/self", self._self),
            get("/v1/agent/services", self._agent_services),
            get("/v1/agent/checks", self._agent_checks),
            put("/v1/agent/service/register", self._register),
            put("/v1/agent/service/deregister/{id:path}", self._deregister),
            put("/v1/agent/check/{verb:str}/{id:path}", self._beat),
            get("/v1/catalog/services", self._catalog_services),
            get("/v1/health/service/{name:path}", self._health),
            get("/v1/kv/{key:path}", self._kv_get),
            put("/v1/kv/{key:path}", self._kv_put),
            Route("/v1/kv/{key:path}", self._kv_delete, methods=["DELETE"]),
        ]

    # status and agent

    async def _leader(self, _: Request) -> Response:
        return _json(f"{_ADDRESS}:8300")

    async def _peers(self, _: Request) -> Response:
        return _json([f"{_ADDRESS}:8300"])

    async def _self(self, _: Request) -> Response:
        config = {"Datacenter": _DATACENTER, "NodeName": _NODE, "Server": True, "Version": _NODE}
        return _json({"Config": config, "Member": {"Name": _NODE, "Addr": _ADDRESS, "Status": 1}})

    async def _agent_services(self, _: Request) -> Response:
        return _json({one.id: _service(one) for one in self._catalog.services.values()})

    async def _agent_checks(self, _: Request) -> Response:
        services = self._catalog.services
        checks = self._catalog.checks()
        return _json({check.id: _check(check, services[check.service_id]) for check in checks})

    async def _register(self, request: Request) -> Response:
        self._catalog.register(await request.body())
        return Response()

    async def _deregister(self, request: Request) -> Response:
        name = request.path_params["id"]
        if self._catalog.deregister(name):
            return Response()
        return Response(f'Unknown service ID "{name}"', 404)

    async def _beat(self, request: Request) -> Response:
        statuses = {"pass": PASSING, "warn": WARNING, "fail": CRITICAL}
        status = statuses.get(request.path_params["verb"])
        if status is None:
            return Response("404 page not found", 404)
        name = request.path_params["id"]
        if self._catalog.beat(name, status, request.query_params.get("note", "")):
            return Response()
        return Response(f'Unknown check ID "{name}"', 404)

    # catalog and health

    async def _catalog_services(self, request: Request) -> Response:
        index = await self._newer(request, SERVICES, lambda: self._changes.index(SERVICES))
        return _json(self._catalog.names(), index)

    async def _health(self, request: Request) -> Response:
        name = request.path_params["name"]
        about = topic(name)
        index = await self._newer(request, about, lambda: self._changes.index(about))
        found = self._catalog.named(name)
        if _flag(request, "passing"):
            found = [service for service in found if service.passing]
        return _json([_health_entry(service) for service in found], index)

    # keys

    async def _kv_get(self, request: Request) -> Response:
        key = request.path_params["key"]
        if _flag(request, "recurse") or _flag(request, "keys"):
            return await self._kv_get_under(request, key)
        index = await self._newer(request, keys.TOPIC, lambda: self._keys.index(key))
        entry = self._keys.get(key)
        if entry is None:
            return _json(None, index, status=404)
        if _flag(request, "raw"):
            return Response(entry.value, headers=_indexed(index))
        return _json([_entry(entry)], index)

    async def _kv_get_under(self, request: Request, prefix: str) -> Response:
        index = await self._newer(request, keys.TOPIC, lambda: self._keys.index_under(prefix))
        found = self._keys.under(prefix)
        if not found:
            return _json(None, index, status=404)
        if not _flag(request, "keys"):
            return _json([_entry(entry) for entry in found], index)
        separator = request.query_params.get("separator", "")
        names = [_cut(entry.key, len(prefix), separator) for entry in found]
        return _json(list(dict.fromkeys(names)), index)

    async def _kv_put(self, request: Request) -> Response:
        if {"acquire", "release"} & request.query_params.keys():
            raise BadRequest("this registry has no sessions, so keys cannot be locked")
        value = await request.body()
        if len(value) > _LARGEST_VALUE:
            return Response(f"the value is {len(value)} bytes; {_LARGEST_VALUE} are allowed", 413)
        key = request.path_params["key"]
        if not key:
            raise BadRequest("missing key name")
        flags = _number(request, "flags") or 0
        return _json(self._keys.put(key, value, flags=flags, cas=_number(request, "cas")))

    async def _kv_delete(self, request: Request) -> Response:
        key = request.path_params["key"]
        if _flag(request, "recurse"):
            self._keys.delete_under(key)
            return _json(True)
        return _json(self._keys.delete(key, cas=_number(request, "cas")))

    async def _newer(self, request: Request, about: str, index: Callable[[], int]) -> int:
        """Holds a blocking query back; the index to answer with."""
        asked = _number(request, "index") or 0
        if asked > 0:
            await self._changes.newer(about, index, asked, self._wait_s(request), _left(request))
        return index()

    def _wait_s(self, request: Request) -> float:
        """What was asked for and up to a sixteenth more, so that clients fall out of step."""
        wait = request.query_params.get("wait")
        wanted = seconds(wait) if wait else _DEFAULT_WAIT_S
        return min(wanted or _DEFAULT_WAIT_S, _LONGEST_WAIT_S) * (1 + self._clock.random() / 16)

    def __repr__(self) -> str:
        return f"RegistryServer({len(self._catalog.services)} services, index {self._changes.last})"


def _left(request: Request) -> Callable[[], Awaitable[None]]:
    async def left() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    return left


def _flag(request: Request, name: str) -> bool:
    """Present and not "false" or "0", as Consul reads flags."""
    return request.query_params.get(name, "false").lower() not in ("false", "0")


def _number(request: Request, name: str) -> int | None:
    value = request.query_params.get(name)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit()):
        raise BadRequest(f"{name} must be a whole number, not {value!r}")
    return int(value)


def _cut(key: str, start: int, separator: str) -> str:
    """`key` up to and with the first separator after `start`."""
    end = key.find(separator, start) if separator else -1
    return key if end < 0 else key[: end + len(separator)]


def _indexed(index: int) -> dict[str, str]:
    return {
        "X-Consul-Index": str(index),
        "X-Consul-KnownLeader": "true",
        "X-Consul-LastContact": "0",
    }


def _json(value: Any, index: int | None = None, *, status: int = 200) -> Response:
    headers = {} if index is None else _indexed(index)
    body = b"" if status == 404 else msgspec.json.encode(value)
    return Response(body, status, headers, "application/json")


async def _bad_request(_: Request, fault: Exception) -> Response:
    return Response(str(fault), 400)


async def _unwritable(_: Request, fault: Exception) -> Response:
    return Response(f"the key cannot be written: {fault}", 500)


def _entry(entry: keys.Entry) -> dict[str, Any]:
    return {
        "LockIndex": 0,
        "Key": entry.key,
        "Flags": entry.flags,
        "Value": base64.b64encode(entry.value).decode() if entry.value else None,
        "CreateIndex": entry.create_index,
        "ModifyIndex": entry.modify_index,
    }


def _service(service: Service) -> dict[str, Any]:
    return {
        "ID": service.id,
        "Service": service.name,
        "Tags": service.tags,
        "Address": service.address,
        "Meta": service.meta,
        "Port": service.port,
        "Weights": {"Passing": 1, "Warning": 1},
        "EnableTagOverride": False,
        "CreateIndex": service.created,
        "ModifyIndex": service.index,
    }


def _check(check: Check, service: Service) -> dict[str, Any]:
    return {
        "Node": _NODE,
        "CheckID": check.id,
        "Name": check.name,
        "Status": check.status,
        "Notes": check.notes,
        "Output": check.output,
        "ServiceID": service.id,
        "ServiceName": service.name,
        "ServiceTags": service.tags,
        "Type": "ttl",
        "CreateIndex": service.created,
        "ModifyIndex": check.index,
    }


def _health_entry(service: Service) -> dict[str, Any]:
    node = {"Node": _NODE, "Address": _ADDRESS, "Datacenter": _DATACENTER, "Meta": {}}
    checks = [_check(check, service) for check in service.checks.values()]
    return {"Node": node, "Service": _service(service), "Checks": checks}
