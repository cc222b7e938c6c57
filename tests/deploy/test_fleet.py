"""The fleet over a real zygote: starts, restarts, kills, and drains in order."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from chassis.clock import ManualClock
from chassis.discovery import Instance
from chassis.errors import ConfigurationFault, Conflict, NotFound, StagedoorError
from chassis.telemetry import Telemetry
from deploy.fleet import Fleet, Running
from deploy.processes import ProcessSpec
from deploy.restarts import RestartPolicy
from deploy.starting import Hopeless
from tests.support.scripted import eventually
from tests.support.zygotes import CHILD, alive, environ, marked, zygote

pytestmark = pytest.mark.slow  # each starts a zygote
LONG_S = 20.0


class Sailing:
    """A fleet on a clock that the test moves, with its zygote."""

    def __init__(
        self, fleet: Fleet, clock: ManualClock, folder: Path, process: asyncio.subprocess.Process
    ) -> None:
        self.fleet = fleet
        self.clock = clock
        self.folder = folder
        self.zygote = process

    def __getitem__(self, instance: str) -> Running:
        return self.fleet.processes[instance]

    async def begun(self, *instances: str) -> None:
        """Until they, and only they, have begun, and the fleet has heard of it."""
        wanted = sorted(instances)
        await eventually(lambda: sorted(marked(self.folder, "begun")) == wanted, LONG_S)
        for instance in instances:
            await self.status(instance, "running")

    async def status(self, instance: str, status: str) -> None:
        await eventually(lambda: self[instance].status == status, LONG_S)

    async def ended(self, instance: str, starts: int) -> None:
        """Until it has ended after so many starts."""
        running = self[instance]
        await eventually(lambda: running.starts == starts and running.pid is None, LONG_S)

    def said(self) -> list[dict[str, Any]]:
        self.fleet._log.close()
        text = (self.folder / "fleet.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]


@asynccontextmanager
async def sailing(
    folder: Path, fates: Sequence[tuple[str, str]], kill_after_s: float = LONG_S, job: str = ""
) -> AsyncIterator[Sailing]:
    """A fleet that was started; `fates` are (service, fate), one instance each, `job` a job's."""
    specs = [ProcessSpec(service, f"{service}-1", CHILD, {"FATE": fate}) for service, fate in fates]
    clock = ManualClock()
    telemetry = Telemetry("supervisor", "supervisor", clock, log_file=folder / "fleet.jsonl")
    async with zygote() as (process, channel):
        fleet = Fleet(
            specs,
            channel,
            environ(folder, "", job),
            folder / "out",
            clock,
            telemetry,
            RestartPolicy(),
            kill_after_s=kill_after_s,
        )
        await fleet.start()
        try:
            yield Sailing(fleet, clock, folder, process)
        finally:
            await fleet.drain()
            telemetry.close()


def still_there(pid: int) -> bool:
    """Whether the process runs, or waits to be waited for; asked without letting the loop run."""
    return Path(f"/proc/{pid}").exists()


async def test_every_process_is_started_as_its_instance(tmp_path: Path) -> None:
    async with sailing(tmp_path, [("rights", "waits"), ("catalog", "waits")]) as fleet:
        await fleet.begun("catalog-1", "rights-1")
        rights = fleet["rights-1"]
        assert (rights.status, rights.starts, rights.last_exit) == ("running", 1, None)
        assert rights.pid is not None and alive(rights.pid)


async def test_an_entry_that_a_killed_process_left_behind_makes_nobody_ready(
    tmp_path: Path,
) -> None:
    def entry(service: str, pid: int | None) -> Instance:
        return Instance(f"{service}-1", service, "127.0.0.1", 1, {"pid": str(pid)})

    async with sailing(tmp_path, [("rights", "waits"), ("catalog", "waits")]) as fleet:
        await fleet.begun("catalog-1", "rights-1")
        catalog = entry("catalog", fleet["catalog-1"].pid)
        assert fleet.fleet.missing([]) == ["rights-1", "catalog-1"]
        assert fleet.fleet.missing([catalog, entry("rights", 1)]) == ["rights-1"]
        assert fleet.fleet.missing([catalog, entry("rights", fleet["rights-1"].pid)]) == []


async def test_a_job_runs_to_its_end_and_what_it_wrote_is_handed_on(tmp_path: Path) -> None:
    async with sailing(tmp_path, [], job="prints:all done") as fleet:
        assert await fleet.fleet.job("fill", CHILD) == "all done"
        assert await fleet.fleet.job("fill", CHILD) == "all done"


async def test_a_job_that_fails_says_why(tmp_path: Path) -> None:
    async with sailing(tmp_path, [], job="misconfigured:the film list is empty") as fleet:
        with pytest.raises(ConfigurationFault, match=r"(?s)fill is given .*list is empty"):
            await fleet.fleet.job("fill", CHILD)


async def test_a_job_that_breaks_says_how_it_ended_and_its_last_words(tmp_path: Path) -> None:
    async with sailing(tmp_path, [], job="breaks:no such luck") as fleet:
        with pytest.raises(StagedoorError) as failed:
            await fleet.fleet.job("fill", CHILD)
    assert str(failed.value) == "fill ended with status 1: RuntimeError: no such luck"


async def test_what_crashes_is_started_again_after_a_while(tmp_path: Path) -> None:
    async with sailing(tmp_path, [("rights", f"once:{tmp_path / 'tried'}")]) as fleet:
        await fleet.status("rights-1", "restarting")
        assert (fleet["rights-1"].pid, fleet["rights-1"].last_exit) == (None, 1)
        await fleet.clock.advance(0.9)
        assert fleet["rights-1"].starts == 1
        await fleet.clock.advance(0.2)
        await fleet.begun("rights-1")
        assert (fleet["rights-1"].status, fleet["rights-1"].starts) == ("running", 2)
    (ended,) = [line for line in fleet.said() if line["event"] == "ended"]
    assert (ended["process"], ended["status"], ended["again_in_s"]) == ("rights-1", 1, 1.0)


async def test_what_ends_at_once_is_never_taken_for_running(tmp_path: Path) -> None:
    fates = [(f"s{number}", "exits:3") for number in range(6)]
    async with sailing(tmp_path, fates) as fleet:
        for service, _ in fates:
            await fleet.status(f"{service}-1", "restarting")


async def test_a_crash_loop_ends_in_quarantine(tmp_path: Path) -> None:
    async with sailing(tmp_path, [("rights", "exits:1")]) as fleet:
        for starts, delay in enumerate((1, 2, 4, 8, 15), start=1):
            await fleet.ended("rights-1", starts)
            await fleet.clock.advance(delay + 0.1)
        await fleet.status("rights-1", "quarantined")
        assert fleet["rights-1"].starts == 6


async def test_who_is_configured_wrongly_is_hopeless_at_once_and_says_why(tmp_path: Path) -> None:
    fates = [("rights", "misconfigured:the keyring is gone"), ("catalog", "waits")]
    async with sailing(tmp_path, fates) as fleet:
        await fleet.ended("rights-1", 1)
        (told,) = fleet.fleet.hopeless()
    assert (told.instance, told.misconfigured) == ("rights-1", True)
    assert told.words.startswith("configuration cannot be used") and "keyring is gone" in told.words


async def test_who_fails_by_itself_is_hopeless_the_second_time(tmp_path: Path) -> None:
    async with sailing(tmp_path, [("rights", "breaks:no such luck")]) as fleet:
        await fleet.ended("rights-1", 1)
        assert fleet.fleet.hopeless() == []
        await fleet.clock.advance(1.1)
        await fleet.ended("rights-1", 2)
        assert fleet.fleet.hopeless() == [
            Hopeless("rights-1", "RuntimeError: no such luck", misconfigured=False)
        ]


async def test_who_was_killed_is_not_hopeless(tmp_path: Path) -> None:
    async with sailing(tmp_path, [("rights", "waits")]) as fleet:
        for starts in (1, 2):
            await eventually(lambda: fleet["rights-1"].pid is not None, LONG_S)
            fleet.fleet.kill("rights", 0)
            await fleet.ended("rights-1", starts)
            assert fleet.fleet.hopeless() == []
            await fleet.clock.advance(2.1)


async def test_a_killed_service_stays_down_for_as_long_as_it_is_held(tmp_path: Path) -> None:
    async with sailing(tmp_path, [("rights", "waits"), ("catalog", "waits")]) as fleet:
        await fleet.begun("catalog-1", "rights-1")
        pid = fleet["rights-1"].pid
        assert fleet.fleet.kill("rights", 5.0) == [pid]
        await fleet.status("rights-1", "restarting")
        assert fleet["rights-1"].last_exit == -signal.SIGKILL
        await fleet.clock.advance(4.9)
        assert fleet["rights-1"].starts == 1
        await fleet.clock.advance(0.2)
        await fleet.status("rights-1", "running")
        assert fleet["rights-1"].pid != pid
        assert fleet["catalog-1"].starts == 1


async def test_a_hold_is_for_that_kill_only(tmp_path: Path) -> None:
    async with sailing(tmp_path, [("rights", "waits")]) as fleet:
        await fleet.begun("rights-1")
        fleet.fleet.kill("rights-1", 100.0)
        await fleet.status("rights-1", "restarting")
        await fleet.clock.advance(100.1)
        await fleet.status("rights-1", "running")
        os.kill(fleet["rights-1"].pid or 0, signal.SIGKILL)
        await fleet.status("rights-1", "restarting")
        await fleet.clock.advance(2.1)
        await fleet.status("rights-1", "running")


async def test_who_is_unknown_or_not_running_cannot_be_killed(tmp_path: Path) -> None:
    async with sailing(tmp_path, [("rights", "waits"), ("catalog", "exits:1")]) as fleet:
        with pytest.raises(NotFound, match="catalog, rights"):
            fleet.fleet.kill("nonsense", 0)
        await fleet.status("catalog-1", "restarting")
        with pytest.raises(Conflict, match="restarting"):
            fleet.fleet.kill("catalog", 0)


async def test_draining_goes_group_by_group_the_edge_first_the_stream_last(
    tmp_path: Path,
) -> None:
    services = ["stream_pipeline", "rights", "play_api", "gateway"]
    async with sailing(tmp_path, [(service, "waits") for service in services]) as fleet:
        await fleet.begun(*(f"{service}-1" for service in services))
        await fleet.fleet.drain()
        left = ["gateway-1", "play_api-1", "rights-1", "stream_pipeline-1"]
        assert marked(tmp_path, "left") == left
        assert {one.status for one in fleet.fleet.processes.values()} == {"stopped"}
        assert await asyncio.wait_for(fleet.zygote.wait(), LONG_S) == 0


async def test_what_does_not_end_in_time_is_killed_and_said_to_be(tmp_path: Path) -> None:
    fates = [("rights", "stubborn"), ("catalog", "waits")]
    async with sailing(tmp_path, fates, kill_after_s=0.2) as fleet:
        await fleet.begun("catalog-1", "rights-1")
        pid = fleet["rights-1"].pid
        await fleet.fleet.drain()
        assert pid is not None and not alive(pid)
        assert fleet["rights-1"].last_exit == -signal.SIGKILL
        assert fleet["catalog-1"].last_exit == 0
    (killed,) = [line for line in fleet.said() if line["event"] == "killed"]
    assert killed["process"] == "rights-1"


async def test_nothing_is_started_again_while_draining(tmp_path: Path) -> None:
    async with sailing(tmp_path, [("rights", "exits:1"), ("catalog", "waits")]) as fleet:
        await fleet.begun("catalog-1")
        await fleet.status("rights-1", "restarting")
        await fleet.fleet.drain()
        await fleet.clock.advance(60)
        assert (fleet["rights-1"].status, fleet["rights-1"].starts) == ("stopped", 1)


async def test_a_start_that_is_under_way_is_drained_too(tmp_path: Path) -> None:
    async with sailing(tmp_path, [("rights", f"once:{tmp_path / 'tried'}")]) as fleet:
        await fleet.status("rights-1", "restarting")
        fleet.clock.tick(1.1)
        await fleet.fleet.drain()
        assert fleet["rights-1"].starts == 2
        assert (fleet["rights-1"].status, fleet["rights-1"].pid) == ("stopped", None)


async def test_without_its_zygote_it_says_why_nothing_starts_and_drains_all_the_same(
    tmp_path: Path,
) -> None:
    fates = [("rights", "waits"), ("catalog", "stubborn")]
    async with sailing(tmp_path, fates, kill_after_s=0.2) as fleet:
        await fleet.begun("catalog-1", "rights-1")
        stubborn = fleet["catalog-1"].pid
        fleet.zygote.send_signal(signal.SIGKILL)
        await fleet.status("rights-1", "restarting")
        await fleet.clock.advance(1.1)
        assert fleet["rights-1"].status == "restarting"
        await asyncio.wait_for(fleet.fleet.drain(), LONG_S)
        assert stubborn is not None and not alive(stubborn)
    said = [line["event"] for line in fleet.said()]
    assert "not_started" in said and "killed" in said


async def test_a_kill_of_what_has_just_ended_is_no_failure(tmp_path: Path) -> None:
    async with sailing(tmp_path, [("rights", "waits")]) as fleet:
        await fleet.begun("rights-1")
        pid = fleet["rights-1"].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        while still_there(pid):
            os.sched_yield()
        assert fleet.fleet.kill("rights", 0) == [pid]
        await fleet.status("rights-1", "restarting")
