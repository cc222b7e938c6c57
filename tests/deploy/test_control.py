"""The supervisor's control API."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from chassis.errors import Conflict, NotFound
from deploy.control import control_app
from deploy.fleet import Running
from deploy.processes import ProcessSpec
from deploy.restarts import RestartPolicy, RestartState


class Fleet:
    """One running process; remembers what was asked of it."""

    def __init__(self) -> None:
        spec = ProcessSpec("rights", "rights-1", "microservices.rights.app")
        running = Running(spec, RestartState(RestartPolicy()), pid=42, starts=2, status="running")
        running.last_exit = -9
        self.processes = {"rights-1": running}
        self.killed: list[tuple[str, float]] = []

    def kill(self, name: str, hold_s: float) -> list[int]:
        if name == "nonsense":
            raise NotFound("there is no process 'nonsense'; there are rights")
        if name == "catalog":
            raise Conflict("catalog is not running now (it is restarting)")
        self.killed.append((name, hold_s))
        return [42]


class Rolling:
    """Restarts what there is; remembers it."""

    def __init__(self) -> None:
        self.restarted: list[str] = []

    async def restart(self, name: str) -> list[str]:
        if name == "catalog":
            raise Conflict("a restart of rights is under way")
        self.restarted.append(name)
        return [f"{name}-1"]


class Control:
    """The API and what it controls."""

    def __init__(self) -> None:
        self.fleet = Fleet()
        self.stopped = 0
        self.rolling = Rolling()
        app = control_app(self.fleet, self.rolling, self.stop)  # type: ignore[arg-type]  # as far as used
        transport = httpx.ASGITransport(app=app)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://control")

    def stop(self) -> None:
        self.stopped += 1


@pytest.fixture
async def control() -> AsyncIterator[Control]:
    control = Control()
    yield control
    await control.http.aclose()


async def test_it_lists_the_processes_as_they_are(control: Control) -> None:
    assert (await control.http.get("/processes")).json() == [
        {
            "service": "rights",
            "instance": "rights-1",
            "pid": 42,
            "status": "running",
            "starts": 2,
            "last_exit": -9,
        }
    ]


@pytest.mark.parametrize(("query", "hold_s"), [("", 0.0), ("?hold=2.5", 2.5), ("?hold=600", 600)])
async def test_it_kills_and_holds(control: Control, query: str, hold_s: float) -> None:
    response = await control.http.post(f"/processes/rights/kill{query}")
    assert response.json() == {"killed": [42]}
    assert control.fleet.killed == [("rights", hold_s)]


@pytest.mark.parametrize("hold", ["soon", "-1", "601", "nan", "inf", ""])
async def test_a_hold_that_makes_no_sense_is_refused(control: Control, hold: str) -> None:
    response = await control.http.post("/processes/rights/kill", params={"hold": hold})
    assert response.status_code == 400 and "hold" in response.json()["detail"]
    assert control.fleet.killed == []


@pytest.mark.parametrize(
    ("name", "status", "said"), [("nonsense", 404, "rights"), ("catalog", 409, "restarting")]
)
async def test_what_cannot_be_killed_is_a_problem_that_says_why(
    control: Control, name: str, status: int, said: str
) -> None:
    response = await control.http.post(f"/processes/{name}/kill")
    assert response.status_code == status and said in response.json()["detail"]
    assert response.headers["content-type"] == "application/problem+json"


async def test_it_restarts_and_says_which(control: Control) -> None:
    response = await control.http.post("/processes/rights/restart")
    assert response.json() == {"restarted": ["rights-1"]}
    assert control.rolling.restarted == ["rights"]
    refused = await control.http.post("/processes/catalog/restart")
    assert refused.status_code == 409 and "under way" in refused.json()["detail"]


async def test_down_begins_the_drain(control: Control) -> None:
    assert (await control.http.post("/down")).json() == {"draining": True}
    assert control.stopped == 1


async def test_only_a_post_changes_anything(control: Control) -> None:
    assert (await control.http.get("/down")).status_code == 405
    assert (await control.http.get("/processes/rights/kill")).status_code == 405
    assert (control.stopped, control.fleet.killed) == (0, [])
