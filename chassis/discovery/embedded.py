"""The embedded registry: an ASGI application that speaks Consul's HTTP API.

It offers the part of the API that a registry client needs: agent services and TTL checks, health
and catalog queries that block, sessions, keys with compare-and-set, and status. Clients cannot tell
it from a Consul agent. Reference: https://developer.hashicorp.com/consul/api-docs
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chassis.clock import SYSTEM, Clock
from chassis.discovery import answers, keys, sessions
from chassis.discovery.catalog import (
    CRITICAL,
    PASSING,
    SERVICES,
    WARNING,
    Catalog,
    topic,
)
from chassis.discovery.changes import Changes
from chassis.discovery.durable import Folder
from chassis.discovery.durations import seconds
from chassis.discovery.lowered import decoded
from chassis.discovery.registry import LARGEST_VALUE
from chassis.errors import BadRequest

_DEFAULT_WAIT_S = 300.0
_LONGEST_WAIT_S = 600.0


class RegistryServer:
    """One registry. Serve `asgi`; `close` lets blocked queries go before the listener stops.

    `state` is the directory of the durable keys; None keeps them in memory only.
    """

    def __init__(self, clock: Clock = SYSTEM, state: Path | None = None) -> None:
        entry_files = Folder(state, keys.Entry, keys.SUFFIX)
        session_files = Folder(state, sessions.Session, sessions.SUFFIX)
        entries, alive = entry_files.load(), session_files.load()
        newest = max(
            (*(one.modify_index for one in entries), *(one.index for one in alive)), default=0
        )
        self._clock = clock
        self._changes = Changes(clock, newest)
        self._keys = keys.Keys(self._changes, entries, entry_files, clock)
        self._sessions = sessions.Sessions(clock, alive, session_files, self._ended)
        self._catalog = Catalog(clock, self._changes)
        self.asgi = Starlette(
            routes=self._routes(),
            exception_handlers={BadRequest: _bad_request, OSError: _unwritable},
        )

    def close(self) -> None:
        """Answers every blocked query with what there is, and stops all timers."""
        self._changes.close()
        self._catalog.close()
        self._sessions.close()

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
            put("/v1/session/create", self._session_create),
            put("/v1/session/renew/{id:str}", self._session_renew),
            put("/v1/session/destroy/{id:str}", self._session_destroy),
            get("/v1/session/info/{id:str}", self._session_info),
            get("/v1/session/list", self._session_list),
            get("/v1/kv/{key:path}", self._kv_get),
            put("/v1/kv/{key:path}", self._kv_put),
            Route("/v1/kv/{key:path}", self._kv_delete, methods=["DELETE"]),
        ]

    # status and agent

    async def _leader(self, _: Request) -> Response:
        return answers.json(f"{answers.ADDRESS}:8300")

    async def _peers(self, _: Request) -> Response:
        return answers.json([f"{answers.ADDRESS}:8300"])

    async def _self(self, _: Request) -> Response:
        config = {
            "Datacenter": answers.DATACENTER,
            "NodeName": answers.NODE,
            "Server": True,
            "Version": answers.NODE,
        }
        return answers.json(
            {
                "Config": config,
                "Member": {"Name": answers.NODE, "Addr": answers.ADDRESS, "Status": 1},
            }
        )

    async def _agent_services(self, _: Request) -> Response:
        return answers.json(
            {one.id: answers.of_service(one) for one in self._catalog.services.values()}
        )

    async def _agent_checks(self, _: Request) -> Response:
        services = self._catalog.services
        checks = self._catalog.checks()
        return answers.json(
            {check.id: answers.of_check(check, services[check.service_id]) for check in checks}
        )

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
        return answers.json(self._catalog.names(), index)

    async def _health(self, request: Request) -> Response:
        name = request.path_params["name"]
        about = topic(name)
        index = await self._newer(request, about, lambda: self._changes.index(about))
        found = self._catalog.named(name)
        if _flag(request, "passing"):
            found = [service for service in found if service.passing]
        return answers.json([answers.of_health(service) for service in found], index)

    # sessions

    async def _session_create(self, request: Request) -> Response:
        wanted = decoded(await request.body() or b"{}", sessions.SessionBody, "session")
        return answers.json({"ID": self._sessions.create(wanted, self._changes.next()).id})

    async def _session_renew(self, request: Request) -> Response:
        name = request.path_params["id"]
        session = self._sessions.renew(name)
        if session is None:
            return Response(f"Session id '{name}' not found", 404)
        return answers.json([answers.of_session(session)])

    async def _session_destroy(self, request: Request) -> Response:
        self._sessions.destroy(request.path_params["id"])
        return answers.json(True)

    async def _session_info(self, request: Request) -> Response:
        session = self._sessions.get(request.path_params["id"])
        return answers.json(
            [] if session is None else [answers.of_session(session)], self._changes.last
        )

    async def _session_list(self, _: Request) -> Response:
        return answers.json(
            [answers.of_session(one) for one in self._sessions.all()], self._changes.last
        )

    def _ended(self, session: sessions.Session) -> None:
        delete = session.behavior == "delete"
        self._keys.let_go(session.id, session.lock_delay_s, delete=delete)

    # keys

    async def _kv_get(self, request: Request) -> Response:
        key = request.path_params["key"]
        if _flag(request, "recurse") or _flag(request, "keys"):
            return await self._kv_get_under(request, key)
        index = await self._newer(request, keys.TOPIC, lambda: self._keys.index(key))
        entry = self._keys.get(key)
        if entry is None:
            return answers.json(None, index, status=404)
        if _flag(request, "raw"):
            return Response(entry.value, headers=answers.indexed(index))
        return answers.json([answers.of_entry(entry)], index)

    async def _kv_get_under(self, request: Request, prefix: str) -> Response:
        index = await self._newer(request, keys.TOPIC, lambda: self._keys.index_under(prefix))
        found = self._keys.under(prefix)
        if not found:
            return answers.json(None, index, status=404)
        if not _flag(request, "keys"):
            return answers.json([answers.of_entry(entry) for entry in found], index)
        separator = request.query_params.get("separator", "")
        names = [_cut(entry.key, len(prefix), separator) for entry in found]
        return answers.json(list(dict.fromkeys(names)), index)

    async def _kv_put(self, request: Request) -> Response:
        value = await request.body()
        if len(value) > LARGEST_VALUE:
            return Response(f"the value is {len(value)} bytes; {LARGEST_VALUE} are allowed", 413)
        key = request.path_params["key"]
        if not key:
            raise BadRequest("missing key name")
        flags = _number(request, "flags") or 0
        for name, change in (("acquire", self._keys.acquire), ("release", self._keys.release)):
            if holder := request.query_params.get(name):
                if self._sessions.get(holder) is None:
                    return Response(f'invalid session "{holder}"', 500)
                return answers.json(change(key, value, holder, flags=flags))
        return answers.json(self._keys.put(key, value, flags=flags, cas=_number(request, "cas")))

    async def _kv_delete(self, request: Request) -> Response:
        key = request.path_params["key"]
        if _flag(request, "recurse"):
            self._keys.delete_under(key)
            return answers.json(True)
        return answers.json(self._keys.delete(key, cas=_number(request, "cas")))

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


async def _bad_request(_: Request, fault: Exception) -> Response:
    return Response(str(fault), 400)


async def _unwritable(_: Request, fault: Exception) -> Response:
    return Response(f"the key cannot be written: {fault}", 500)
