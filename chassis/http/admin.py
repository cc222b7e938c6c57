"""The admin port that every process has: alive, ready, version, metrics, its part of a trace."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from chassis.telemetry import Telemetry

_METRICS_TYPE = "text/plain; version=1.0.0; charset=utf-8"


def admin_routes(
    telemetry: Telemetry, ready: Callable[[], bool], version: str
) -> Sequence[BaseRoute]:
    """The routes that any admin application starts with."""

    async def live(request: Request) -> Response:
        return PlainTextResponse("live\n")

    async def readiness(request: Request) -> Response:
        return PlainTextResponse(*(("ready\n", 200) if ready() else ("not ready\n", 503)))

    async def tell_version(request: Request) -> Response:
        names = {"service": telemetry.service, "instance": telemetry.instance}
        return JSONResponse({**names, "version": version})

    async def metrics(request: Request) -> Response:
        return Response(telemetry.metrics.render(), media_type=_METRICS_TYPE)

    async def trace(request: Request) -> Response:
        return JSONResponse(telemetry.trace(request.path_params["trace_id"]))

    return [
        Route("/live", live),
        Route("/ready", readiness),
        Route("/version", tell_version),
        Route("/metrics", metrics),
        Route("/traces/{trace_id}", trace),
    ]


def admin_app(telemetry: Telemetry, ready: Callable[[], bool], version: str) -> Starlette:
    return Starlette(routes=list(admin_routes(telemetry, ready, version)))
