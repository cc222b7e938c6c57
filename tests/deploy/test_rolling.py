"""Restarting a service while it serves, over a real zygote."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chassis.clock import SYSTEM
from chassis.errors import Conflict, NotFound, StagedoorError
from chassis.telemetry import Telemetry
from deploy.fleet import Fleet, Running
from deploy.processes import ProcessSpec
from deploy.restarts import RestartPolicy
from deploy.rolling import Rolling
from tests.support.scripted import eventually
from tests.support.zygotes import CHILD, alive, environ, marked, zygote

pytestmark = pytest.mark.slow
LONG_S = 20.0


class Rolled:
    """A fleet, and what is known of it whenever somebody is looked for in the registry."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self.fleet = fleet
        self.folder = folder
        self.fates: dict[str, dict[str, str]] = {}
        self.looked: list[tuple[str, int, bool]] = []
        self.found = True
        self.rolling = Rolling(fleet, self._look, SYSTEM, back_s=0.3, settle_s=0.0)

    def _look(self, running: Running, pid: int) -> bool:
        """Notes whether the process of before is still there."""
        before = running.pid is not None and running.pid != pid and alive(running.pid)
        self.looked.append((running.spec.instance, pid, before))
        return self.found and len(marked(self.folder, "begun")) > len(self.fleet.processes)

    def __getitem__(self, instance: str) -> Running:
        return self.fleet.processes[instance]


@asynccontextmanager
async def rolled(folder: Path, *services: str) -> AsyncIterator[Rolled]:
    fates = {f"{name}-{n}": {"FATE": "waits"} for name in services for n in (1, 2)}
    specs = [
        ProcessSpec(name.rpartition("-")[0], name, CHILD, fate) for name, fate in fates.items()
    ]
    telemetry = Telemetry("supervisor", "supervisor", SYSTEM, log_file=folder / "fleet.jsonl")
    async with zygote() as (_, channel):
        fleet = Fleet(
            specs, channel, environ(folder, "", ""), folder, SYSTEM, telemetry, RestartPolicy()
        )
        await fleet.start()
        try:
            one = Rolled(fleet, folder)
            one.fates = fates
            await eventually(lambda: len(marked(folder, "begun")) == len(specs), LONG_S)
            yield one
        finally:
            await fleet.drain()
            telemetry.close()


def log(folder: Path) -> str:
    return (folder / "fleet.jsonl").read_text() if (folder / "fleet.jsonl").exists() else ""


async def test_a_gateway_goes_only_when_its_successor_is_there(tmp_path: Path) -> None:
    async with rolled(tmp_path, "gateway") as fleet:
        before = [fleet["gateway-1"].pid, fleet["gateway-2"].pid]
        fleet.rolling._back_s = LONG_S
        assert await fleet.rolling.restart("gateway") == ["gateway-1", "gateway-2"]
        after = [fleet["gateway-1"].pid, fleet["gateway-2"].pid]
        assert None not in after and set(after).isdisjoint(before)
        assert all(was_there for _, _, was_there in fleet.looked)
        assert not any(alive(pid) for pid in before if pid)
        assert [fleet[name].starts for name in ("gateway-1", "gateway-2")] == [2, 2]
        assert all(one.status == "running" for one in fleet.fleet.processes.values())
    assert '"ended"' not in log(tmp_path) and '"killed"' not in log(tmp_path)


async def test_others_are_drained_and_started_again_one_at_a_time(tmp_path: Path) -> None:
    async with rolled(tmp_path, "rights") as fleet:
        before = fleet["rights-1"].pid, fleet["rights-2"].pid
        fleet.rolling._back_s = LONG_S
        assert await fleet.rolling.restart("rights") == ["rights-1", "rights-2"]
        assert marked(tmp_path, "left") == ["rights-1", "rights-2"]
        assert not any(was_there for _, _, was_there in fleet.looked)
        assert {fleet["rights-1"].pid, fleet["rights-2"].pid}.isdisjoint(before)
        assert [name for name, _, _ in fleet.looked[:1]] == ["rights-1"]
    assert '"ended"' not in log(tmp_path)


async def test_one_instance_may_be_restarted_alone(tmp_path: Path) -> None:
    async with rolled(tmp_path, "rights") as fleet:
        other = fleet["rights-2"].pid
        fleet.rolling._back_s = LONG_S
        assert await fleet.rolling.restart("rights-1") == ["rights-1"]
        assert (fleet["rights-2"].pid, fleet["rights-1"].starts) == (other, 2)


async def test_a_successor_that_ends_leaves_the_old_one_serving(tmp_path: Path) -> None:
    async with rolled(tmp_path, "gateway") as fleet:
        old, fleet.found = fleet["gateway-1"].pid, False
        fleet.rolling._back_s = LONG_S
        fleet.fates["gateway-1"]["FATE"] = "misconfigured:the rules are gone"
        with pytest.raises(StagedoorError, match=r"(?s)gateway-1 ended .* the rules are gone"):
            await fleet.rolling.restart("gateway")
        assert old is not None and alive(old)
        assert (fleet["gateway-1"].pid, fleet["gateway-1"].status) == (old, "running")
        assert fleet["gateway-2"].starts == 1


async def test_a_successor_that_never_comes_is_ended(tmp_path: Path) -> None:
    async with rolled(tmp_path, "gateway") as fleet:
        old, fleet.found = fleet["gateway-1"].pid, False
        with pytest.raises(StagedoorError, match="gateway-1 is not back after"):
            await fleet.rolling.restart("gateway")
        assert fleet["gateway-1"].pid == old
        assert not any(alive(pid) for _, pid, _ in fleet.looked)


async def test_only_one_restart_is_under_way(tmp_path: Path) -> None:
    async with rolled(tmp_path, "gateway", "rights") as fleet:
        fleet.found = False
        first = asyncio.create_task(fleet.rolling.restart("gateway"))
        await eventually(lambda: bool(fleet.looked))
        with pytest.raises(Conflict, match="a restart of gateway is under way"):
            await fleet.rolling.restart("rights")
        with pytest.raises(StagedoorError):
            await first
        fleet.found, fleet.rolling._back_s = True, LONG_S
        assert await fleet.rolling.restart("rights-1") == ["rights-1"]


async def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    async with rolled(tmp_path, "rights") as fleet:
        with pytest.raises(NotFound, match="there are rights"):
            await fleet.rolling.restart("nonsense")
