"""The supervisor's control API, on a unix socket that only its owner may use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from chassis.errors import BadRequest, StagedoorError
from chassis.http.problems import problem
from deploy.fleet import Fleet, Running
from deploy.rolling import Rolling


def control_app(fleet: Fleet, rolling: Rolling, stop: Callable[[], None]) -> Starlette:
    async def processes(request: Request) -> Response:
        return JSONResponse([_shown(one) for one in fleet.processes.values()])

    async def kill(request: Request) -> Response:
        hold_s = _seconds(request.query_params.get("hold", "0"))
        return JSONResponse({"killed": fleet.kill(request.path_params["name"], hold_s)})

    async def restart(request: Request) -> Response:
        return JSONResponse({"restarted": await rolling.restart(request.path_params["name"])})

    async def down(request: Request) -> Response:
        stop()
        return JSONResponse({"draining": True})

    return Starlette(
        routes=[
            Route("/processes", processes),
            Route("/processes/{name:path}/kill", kill, methods=["POST"]),
            Route("/processes/{name:path}/restart", restart, methods=["POST"]),
            Route("/down", down, methods=["POST"]),
        ],
        exception_handlers={StagedoorError: _problem},
    )


async def _problem(request: Request, failure: Exception) -> Response:
    status, headers, body = problem(failure)
    shown = {name.decode(): value.decode() for name, value in headers}
    return Response(body, status, shown)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise BadRequest(f"hold={text!r} is not a number of seconds") from None
    if not 0 <= seconds <= 600:
        raise BadRequest("hold must be 0 to 600 seconds")
    return seconds


def _shown(running: Running) -> dict[str, Any]:
    return {
        "service": running.spec.service,
        "instance": running.spec.instance,
        "pid": running.pid,
        "status": running.status,
        "starts": running.starts,
        "last_exit": running.last_exit,
    }
