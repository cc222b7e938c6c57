"""The life of a service process: built, served, found, drained, closed; and what cuts it short."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from chassis import config
from chassis.clock import SYSTEM, ManualClock
from chassis.contracts.wire import Call, Wire
from chassis.discovery import Instance, Registry
from chassis.errors import ConfigurationFault, StoreUnavailable
from chassis.http.api import Reply, Request
from chassis.identity import Keyring, Seal
from chassis.service import Build, Chassis, ProcessSettings, Service, open_chassis, serve
from chassis.telemetry import Telemetry
from tests.support.ports import free_port
from tests.support.registry import opened, serving
from tests.support.scripted import eventually
from tests.support.served import prepare, served
from tests.support.services import StillRegistry
from tests.support.waiting import until

LONG_S = 20.0
NOBODY = "consul://127.0.0.1:1"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return prepare(tmp_path / "home")


@asynccontextmanager
async def asking(url: str) -> AsyncIterator[Registry]:
    registry = opened(url)
    try:
        yield registry
    finally:
        await registry.close()


async def found(registry: Registry, count: int = 1) -> list[Instance]:
    """Waits until the registry knows so many instances."""
    async with asyncio.timeout(LONG_S):
        index, listed = await registry.instances("things")
        while len(listed) != count:
            index, listed = await registry.instances("things", index=index, wait_s=5)
    return listed


def said(home: Path, instance: str = "things-1") -> list[dict[str, Any]]:
    text = (home / "log" / f"{instance}.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def events(home: Path) -> list[str]:
    return [line["event"] for line in said(home) if "event" in line]


# --- as a process of its own


@pytest.mark.slow
async def test_sigterm_lets_a_request_finish_after_the_registry_has_forgotten_us(
    home: Path,
) -> None:
    patient = {"STAGEDOOR_DISCOVERY_INTERVAL_S": "1.5"}
    async with serving() as url, asking(url) as registry, served(home, url, patient) as process:
        (me,) = await found(registry)
        assert me.id == "things-1" and me.meta["colour"] == "blue"
        async with httpx.AsyncClient() as http:
            ready = f"http://{me.meta['admin']}/ready"
            assert (await http.get(ready)).status_code == 200
            slow = asyncio.ensure_future(http.get(f"http://{me.address}/slow", timeout=LONG_S))
            await eventually((home / "begun").exists, LONG_S)
            process.send_signal(signal.SIGTERM)
            await found(registry, 0)
            assert (await http.get(ready)).status_code == 503
            assert (await http.get(f"http://{me.address}/openapi.json")).status_code == 200
            assert not slow.done() and process.returncode is None
            (home / "go").touch()
            assert (await slow).json() == "slow"
        assert await asyncio.wait_for(process.wait(), LONG_S) == 0
    assert events(home) == ["serving", "draining"]


async def test_a_request_that_does_not_finish_is_cut_at_the_end_of_the_drain(home: Path) -> None:
    short = {"STAGEDOOR_DRAIN_S": "0.2", "STAGEDOOR_DISCOVERY_INTERVAL_S": "0.05"}
    async with serving() as url, asking(url) as registry, served(home, url, short) as process:
        (me,) = await found(registry)
        async with httpx.AsyncClient() as http:
            slow = asyncio.ensure_future(http.get(f"http://{me.address}/slow", timeout=LONG_S))
            await eventually((home / "begun").exists, LONG_S)
            process.send_signal(signal.SIGTERM)
            assert (await slow).status_code == 500
        assert await asyncio.wait_for(process.wait(), LONG_S) == 0


@pytest.mark.parametrize(
    ("fate", "why"), [("dies", "the background broke"), ("ends", "ended by itself")]
)
async def test_a_background_function_that_ends_takes_the_process_with_it(
    home: Path, fate: str, why: str
) -> None:
    async with serving() as url, asking(url) as registry:
        async with served(home, url, {"FATE": fate}) as process:
            await found(registry)
            (home / "go").touch()
            _, error = await asyncio.wait_for(process.communicate(), LONG_S)
            assert process.returncode == 1
            assert why in error.decode()
        assert await found(registry, 0) == []
    failed = next(line for line in said(home) if line.get("event") == "failed")
    assert why in failed["fault"]
    assert events(home) == ["serving", "failed", "draining"]


async def test_a_service_that_cannot_be_built_never_shows_up(home: Path) -> None:
    async with serving() as url, asking(url) as registry:
        async with served(home, url, {"FATE": "refuses"}) as process:
            _, error = await asyncio.wait_for(process.communicate(), LONG_S)
            assert process.returncode == 1
            assert "another schema" in error.decode()
        assert await found(registry, 0) == []


async def test_a_registry_that_is_gone_does_not_keep_it_from_draining(home: Path) -> None:
    async with AsyncExitStack() as up:
        url = await up.enter_async_context(serving())
        async with served(home, url) as process:
            async with asking(url) as registry:
                await found(registry)
            await up.aclose()
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), LONG_S) == 0
    assert events(home) == ["serving", "draining", "registry_away"]


# --- in this process


def settings(home: Path, **more: Any) -> ProcessSettings:
    defaults = {"registry": NOBODY, "discovery_interval_s": 0.0, "instance": "things-1"}
    return ProcessSettings(home=home, **{**defaults, **more})


@asynccontextmanager
async def running(build: Build, options: ProcessSettings) -> AsyncIterator[asyncio.Task[None]]:
    """`serve` in this loop; on leaving it is cancelled, if it has not ended."""
    task = asyncio.ensure_future(serve("things", build, options))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def plain(chassis: Chassis) -> Service:
    api = chassis.api()

    async def hello(request: Request) -> Reply:
        return Reply(b'"hello"')

    api.route("GET", "/hello", hello, auth=False)
    return Service(api)


async def answered(url: str) -> httpx.Response:
    """The first answer that comes."""
    async with asyncio.timeout(LONG_S), httpx.AsyncClient() as http:
        while True:
            try:
                return await http.get(url)
            except httpx.TransportError:
                await asyncio.sleep(0)


async def test_without_a_registry_it_serves_unready_and_enters_it_when_it_comes(
    home: Path,
) -> None:
    port, admin, registry_port = free_port(), free_port(), free_port()
    url = f"consul://127.0.0.1:{registry_port}"
    options = settings(home, port=port, admin_port=admin, registry=url)
    async with running(plain, options):
        assert (await answered(f"http://127.0.0.1:{port}/hello")).json() == "hello"
        ready = await answered(f"http://127.0.0.1:{admin}/ready")
        assert (ready.status_code, ready.text) == (503, "not ready\n")
        async with serving(port=registry_port), asking(url) as registry:
            (me,) = await found(registry)
            assert (me.port, me.meta["admin"]) == (port, f"127.0.0.1:{admin}")
            ready = await answered(f"http://127.0.0.1:{admin}/ready")
            assert (ready.status_code, ready.text) == (200, "ready\n")


@pytest.mark.parametrize("which", ["port", "admin_port"])
async def test_a_port_that_is_taken_is_said_before_anything_is_opened(
    home: Path, which: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationFault, match=f"{port}.*another port"):
            await serve("things", plain, settings(home, **{which: port}))
    assert not (home / "log").exists()


async def test_without_a_keyring_it_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationFault, match="stagedoor"):
        await serve("things", plain, settings(tmp_path))


async def test_a_failing_build_closes_what_was_opened(home: Path) -> None:
    opened: list[Chassis] = []

    async def refuse(chassis: Chassis) -> Service:
        opened.append(chassis)
        chassis.peer(Call("others", "echo", Wire, Wire), timeout_s=1)
        chassis.telemetry.log.say("building")
        raise RuntimeError("no")

    port = free_port()
    with pytest.raises(RuntimeError, match="no"):
        await serve("things", refuse, settings(home, port=port))
    with socket.create_server(("127.0.0.1", port)):
        assert events(home) == ["building"]
    (chassis,) = opened
    assert all(watch._task.done() for watch in chassis.directory._watches.values())


def closing(closed: list[str], name: str) -> Callable[[], Awaitable[None]]:
    async def close() -> None:
        closed.append(name)

    return close


async def test_what_was_opened_last_is_closed_first_and_after_the_background(home: Path) -> None:
    closed, started = list[str](), asyncio.Event()

    async def beside() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            closed.append("background")

    async def build(chassis: Chassis) -> Service:
        steps = [closing(closed, "first"), closing(closed, "second")]
        return Service(chassis.api(), background=[beside], closing=steps)

    async with running(build, settings(home)):
        await asyncio.wait_for(started.wait(), LONG_S)
    assert closed == ["background", "second", "first"]


async def test_one_closing_that_fails_does_not_keep_the_others_from_closing(home: Path) -> None:
    closed, started = list[str](), asyncio.Event()

    async def broken() -> None:
        raise StoreUnavailable("the disk is gone")

    async def build(chassis: Chassis) -> Service:
        async def beside() -> None:
            started.set()
            await asyncio.Event().wait()

        steps = [closing(closed, "first"), broken]
        return Service(chassis.api(), background=[beside], closing=steps)

    async with running(build, settings(home)) as task:
        await asyncio.wait_for(started.wait(), LONG_S)
    assert closed == ["first"]
    assert isinstance(task.exception(), StoreUnavailable)


async def test_the_background_goes_on_while_requests_finish(home: Path) -> None:
    """What a request that is still served hands to the background must be taken."""
    port, begun, go = free_port(), asyncio.Event(), asyncio.Event()
    taken: list[str] = []

    async def build(chassis: Chassis) -> Service:
        queue: asyncio.Queue[str] = asyncio.Queue()

        async def beside() -> None:
            while True:
                taken.append(await queue.get())
                queue.task_done()

        async def slow(request: Request) -> Reply:
            begun.set()
            await go.wait()
            queue.put_nowait("work")
            await queue.join()
            return Reply(b"{}")

        api = chassis.api()
        api.route("GET", "/slow", slow, auth=False)
        return Service(api, background=[beside])

    async with running(build, settings(home, port=port)) as task:
        asked = asyncio.ensure_future(answered(f"http://127.0.0.1:{port}/slow"))
        await asyncio.wait_for(begun.wait(), LONG_S)
        task.cancel()
        for _ in range(50):
            await asyncio.sleep(0)
        go.set()
        assert (await asked).status_code == 200
    assert taken == ["work"]


class Gone(StillRegistry):
    """A registry that never answers."""

    async def instances(self, service: str, **_: Any) -> tuple[int, list[Instance]]:
        raise StoreUnavailable("the registry is away")


def chassis_on(home: Path, registry: Registry) -> Chassis:
    clock = ManualClock()
    seal = Seal(Keyring(active="k1", secrets={"k1": "42" * 32}), clock)
    telemetry = Telemetry("things", "things-1", clock, log_file=home / "test.jsonl")
    return Chassis("things", settings(home), registry, seal, telemetry, clock)


async def test_the_lists_of_instances_survive_a_restart(home: Path) -> None:
    call = Call("others", "echo", Wire, Wire)
    other = Instance("others-1", "others", "127.0.0.1", 80)
    before = chassis_on(home, StillRegistry({"others": [other]}))
    before.peer(call, timeout_s=1)
    await until(lambda: before.directory.instances("others"))
    await before.close()
    after = chassis_on(home, Gone())
    after.peer(call, timeout_s=1)
    assert after.directory.instances("others") == (other,)
    await after.close()
    assert (home / "registry" / "things-1" / "others.json").exists()


async def test_an_instance_without_a_name_gets_one(home: Path) -> None:
    async with AsyncExitStack() as stack:
        chassis = await open_chassis("things", settings(home, instance=""), SYSTEM, stack)
        name = chassis.telemetry.instance
    assert name.startswith("things-") and len(name) == len("things-") + 8


# --- settings


def test_every_address_follows_from_the_home() -> None:
    one = ProcessSettings(home=Path("/srv/stagedoor"))
    assert one.tables_url("rights") == "sqlite:///srv/stagedoor/data/rights.db"
    assert one.views_url == "sqlite:///srv/stagedoor/data/views.db"
    assert one.log_url == "log:///srv/stagedoor/events"
    assert one.objects_url == "file:///srv/stagedoor/archive"
    assert one.keyring_file == Path("/srv/stagedoor/keys/inside.json")


def test_an_address_that_is_set_is_used() -> None:
    environ = {
        "STAGEDOOR_TABLES": "cassandra://db",
        "STAGEDOOR_LOG": "kafka://broker",
        "STAGEDOOR_KEYRING": "/etc/keys.json",
    }
    one = config.load(ProcessSettings, environ)
    assert (one.tables_url("rights"), one.log_url) == ("cassandra://db", "kafka://broker")
    assert one.keyring_file == Path("/etc/keys.json")


def test_settings_that_make_no_sense_are_all_told_at_once() -> None:
    environ = {"STAGEDOOR_PORT": "high", "STAGEDOOR_DRAIN_S": "soon", "STAGEDOOR_HOME": ""}
    with pytest.raises(ConfigurationFault) as fault:
        config.load(ProcessSettings, environ)
    assert len(fault.value.faults) == 3
