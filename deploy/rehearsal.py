"""The short life of a service that the zygote lives before it forks.

What runs for the first time costs memory: code is specialised, types are looked up, patterns are
compiled, libraries set themselves up. Done here it is done once, in pages that all processes
share, which saves a megabyte in each. Nothing is left behind: no thread, nothing on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import uvloop

from chassis.clock import SYSTEM
from chassis.contracts.viewing import VIEWS
from chassis.discovery.embedded import RegistryServer
from chassis.errors import StagedoorError
from chassis.http.api import Request
from chassis.http.client import Client
from chassis.http.serving import Listener, bind
from chassis.identity import Keyring
from chassis.service import Chassis, ProcessSettings, Service, live
from chassis.storage import open_tables

ROUNDS = 12
"""CPython specialises code once it has run eight times."""
LONGEST_S = 5.0


def rehearse() -> bool:
    """Whether it went to its end; where it cannot, processes only need more memory."""
    with tempfile.TemporaryDirectory() as folder:
        return uvloop.run(within(LONGEST_S, Path(folder)))


async def within(seconds: float, home: Path) -> bool:
    """Rehearses in the folder `home`, for so long at most."""
    with contextlib.suppress(StagedoorError, OSError):  # a TimeoutError is one, too
        async with asyncio.timeout(seconds), AsyncExitStack() as stack:
            await _rehearse(home, stack)
            return True
    return False


async def _rehearse(home: Path, stack: AsyncExitStack) -> None:
    keyring = home / "inside.json"
    keyring.write_bytes(msgspec.json.encode(Keyring.fresh(SYSTEM)))
    registry = RegistryServer(SYSTEM)
    listener = Listener(registry.asgi, stack.enter_context(bind("127.0.0.1", 0)))
    await listener.start()
    stack.push_async_callback(listener.drain, 0.1)
    stack.callback(registry.close)
    settings = ProcessSettings(
        home=home,
        keyring=keyring,
        registry=f"consul://127.0.0.1:{listener.port}",
        registry_ttl_s=0.03,
        discovery_interval_s=0.0,
    )
    end = asyncio.Event()

    async def build(chassis: Chassis) -> Service:
        tables = open_tables(chassis.settings.views_url)
        await tables.prepare(*VIEWS)
        api = chassis.api()
        api.route("GET", "/v1/scenes/{scene}", _scene, auth=False)

        async def perform() -> None:
            await _perform(chassis)
            end.set()
            await asyncio.get_running_loop().create_future()

        return Service(api, background=[perform], closing=[tables.close])

    await live("rehearsal", build, settings, SYSTEM, end)


async def _scene(request: Request) -> str:
    return str(request.params["scene"])


async def _perform(chassis: Chassis) -> None:
    """Finds itself in the registry, and asks itself what others ask a service."""
    chassis.directory.watch(chassis.name)
    await chassis.directory.ready(chassis.name, LONGEST_S)
    (itself,) = chassis.directory.instances(chassis.name)
    client = Client()
    try:
        for _ in range(ROUNDS):
            await client.request("GET", f"http://{itself.address}/v1/scenes/one")
            await client.request("GET", f"http://{itself.meta['admin']}/metrics")
            await chassis.clock.sleep(chassis.settings.registry_ttl_s / 3)
    finally:
        await client.close()
