"""The admin application: the rules and their history, clusters, snapshot, drain.

Nothing here changes the rules: they change with their file. `GET /rules` gives the document that
serves with its content hash as ETag.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec
from msgspec import Struct
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chassis.contracts.wire import NOT_DECODED
from chassis.errors import BadRequest, NotFound, StagedoorError
from chassis.http.admin import PAGES, AdminPort
from chassis.http.problems import problem
from chassis.telemetry import Telemetry
from gateway.admin.boundary import Boundary
from gateway.rules.build import check
from gateway.rules.explain import explain, request_of
from gateway.rules.history import Version
from gateway.rules.live import LiveRules
from gateway.rules.model import json_schema
from gateway.rules.source import MAX_BYTES

_YAML = "application/yaml"


class Operations(Protocol):
    """What the admin application asks of the running gateway."""

    def ready(self) -> bool:
        """False from the moment a drain begins."""
        ...

    def clusters(self) -> Sequence[Mapping[str, Any]]:
        """Each cluster with its instances, what is in flight, and what is ejected and why."""
        ...

    def drain(self) -> None:
        """Begins to drain and returns at once; again is harmless."""
        ...


class ExplainRequest(Struct, forbid_unknown_fields=True):
    """`POST /rules/explain`. `url` is a URL or a path; `claims` are taken as verified."""

    url: str
    method: str = "GET"
    headers: dict[str, str] = {}
    client: str = "127.0.0.1"
    claims: dict[str, Any] | None = None


def admin_app(
    live: LiveRules, telemetry: Telemetry, operations: Operations, version: str
) -> Starlette:
    """The whole admin application of one gateway worker."""
    port = AdminPort(telemetry, operations.ready, version)
    handlers = _Handlers(live, operations, port)
    routes = [
        *(Route(path, handlers.page) for path in PAGES),
        Route("/rules", handlers.rules),
        Route("/rules/schema", handlers.schema),
        Route("/rules/lint", handlers.lint, methods=["POST"]),
        Route("/rules/explain", handlers.explain, methods=["GET", "POST"]),
        Route("/rules/history", handlers.history),
        Route("/rules/history/{version:int}", handlers.one_version),
        Route("/snapshot", handlers.snapshot),
        Route("/clusters", handlers.clusters),
        Route("/drain", handlers.drain, methods=["POST"]),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(Boundary)],
        exception_handlers={StagedoorError: _tell, 404: _no_such_page},
    )


class _Handlers:
    def __init__(self, live: LiveRules, operations: Operations, port: AdminPort) -> None:
        self._port = port
        self._live = live
        self._operations = operations

    async def page(self, request: Request) -> Response:
        """What every process tells on its admin port."""
        reply = self._port.page(request.url.path)
        return Response(reply.body, reply.status, media_type=reply.content_type.decode())

    async def rules(self, request: Request) -> Response:
        snapshot = self._live.snapshot
        tag = f'"{snapshot.content_hash}"'
        headers = {"etag": tag, "x-rules-version": str(snapshot.version)}
        if tag in _tags(request.headers.get("if-none-match", "")):
            return Response(status_code=304, headers=headers)
        return Response(snapshot.source, media_type=_YAML, headers=headers)

    async def schema(self, request: Request) -> Response:
        return _json(json_schema(), media_type="application/schema+json")

    async def lint(self, request: Request) -> Response:
        """200 with warnings at most, or 422 with every fault; changes nothing either way."""
        text = await _body(request)
        folder = self._live.file.parent
        _, findings = await asyncio.to_thread(check, text, self._live.file.name, folder=folder)
        sound = all(finding.warning for finding in findings)
        return _json({"ok": sound, "findings": findings}, status=200 if sound else 422)

    async def explain(self, request: Request) -> Response:
        asked = _question(request) if request.method == "GET" else await _asked(request)
        try:
            written = request_of(
                asked.method,
                asked.url,
                headers=asked.headers,
                client=asked.client,
                claims=asked.claims,
            )
        except ValueError as fault:
            raise BadRequest(f"{asked.url!r} is no URL: {fault}") from None
        return _json(explain(self._live.snapshot, written))

    async def history(self, request: Request) -> Response:
        """Newest first, without the documents."""
        versions = await asyncio.to_thread(self._live.history.versions)
        return _json([_summary(version) for version in versions])

    async def one_version(self, request: Request) -> Response:
        number = request.path_params["version"]
        version = await asyncio.to_thread(self._live.history.get, number)
        if version is None:
            raise NotFound(f"version {number} is not kept; GET /rules/history lists those that are")
        return Response(version.source, media_type=_YAML)

    async def snapshot(self, request: Request) -> Response:
        """What serves; `findings` are of the newest document seen, refused or not."""
        snapshot = self._live.snapshot
        told = {
            "version": snapshot.version,
            "content_hash": snapshot.content_hash,
            "judged_hash": self._live.judged_hash,
            "rules": len(snapshot.routes),
            "clusters": sorted(snapshot.clusters),
            "filters": sorted(snapshot.filters),
            "file": str(self._live.file),
            "counters": self._live.counters,
            "findings": self._live.faults,
        }
        return _json(told)

    async def clusters(self, request: Request) -> Response:
        return _json(self._operations.clusters())

    async def drain(self, request: Request) -> Response:
        self._operations.drain()
        return _json({"draining": True}, status=202)


def _summary(version: Version) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(version)
    del told["source"]
    return told


def _tags(header: str) -> list[str]:
    return [tag.strip().removeprefix("W/") for tag in header.split(",")]


def _question(request: Request) -> ExplainRequest:
    """The short form: `?url=/v1/titles&method=GET`."""
    query = request.query_params
    if "url" not in query:
        raise BadRequest("say which request: ?url=/v1/titles&method=GET")
    return ExplainRequest(url=query["url"], method=query.get("method", "GET"))


async def _asked(request: Request) -> ExplainRequest:
    try:
        return msgspec.json.decode(await _body(request), type=ExplainRequest)
    except NOT_DECODED as fault:
        raise BadRequest(f"the body must be JSON with a 'url': {fault}") from None


async def _body(request: Request) -> bytes:
    """At most as much as a document may have."""
    read = bytearray()
    async for chunk in request.stream():
        read += chunk
        if len(read) > MAX_BYTES:
            raise BadRequest(f"the body is larger than {MAX_BYTES} bytes")
    return bytes(read)


def _json(value: Any, *, status: int = 200, media_type: str = "application/json") -> Response:
    body = msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
    return Response(body, status_code=status, media_type=media_type)


async def _tell(request: Request, failure: Exception) -> Response:
    status, headers, body = problem(failure)
    response = Response(body, status_code=status)
    response.raw_headers = headers
    return response


async def _no_such_page(request: Request, failure: Exception) -> Response:
    return await _tell(request, NotFound(f"there is no {request.url.path} on the admin port"))
