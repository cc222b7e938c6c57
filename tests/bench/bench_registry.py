"""How soon a change at the registry shows at others, and what a call costs its client.

    python -m tests.bench.bench_registry [--rounds 40]

`*_ms`: from just before `register()` or `deregister()` in another process until a `Directory`'s
list has changed, and until a gateway's first (or last) answer from that instance. Damping is as in
life for the gateway, whose rounds are a second apart, and off for the directory. `*_us`: processor
time of the client a call, sockets included, one call at a time. The embedded registry runs in a
process of its own; Consul is the launcher's (`stagedoor servers install consul`) or the one of
STAGEDOOR_TEST_CONSUL, and left out where there is none. A table of both goes to standard output,
as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest
import uvloop

from chassis.clock import SYSTEM
from chassis.discovery import Instance, Registry
from chassis.discovery.directory import Directory
from chassis.discovery.roster import RosterConfig
from tests.support import real
from tests.support.gateways import running
from tests.support.registry import opened, until
from tests.support.registry_process import EmbeddedServer

CALLS = 300
BARS = {"change_at_the_gateway_p99_ms": 250.0}
Row = dict[str, float | str]


class Registrar:
    """A process that registers and deregisters when told, and says when it began."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    @contextlib.asynccontextmanager
    async def started(cls, url: str) -> AsyncIterator[Registrar]:
        pipe = asyncio.subprocess.PIPE
        command = (sys.executable, "-m", "tests.bench.bench_registry", "--registrar", url)
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
        try:
            yield cls(process)
        finally:
            process.kill()
            await process.wait()

    async def tell(self, order: str) -> float:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(order.encode() + b"\n")
        return float(await self._process.stdout.readline())


async def registrar(url: str) -> None:
    registry, registered = opened(url), {}
    while line := (await asyncio.to_thread(sys.stdin.readline)).split():
        service, number, port = line[1], line[2], int(line[3])
        began = time.monotonic()
        if line[0] == "+":
            one = Instance(f"{service}-{number}", service, "127.0.0.1", port)
            registered[number] = await registry.register(one)
        else:
            await registered.pop(number).deregister()
        print(began, flush=True)


async def directory_ms(url: str, registrar: Registrar, rounds: int) -> list[float]:
    registry, service = opened(url), f"bench-{uuid.uuid4().hex}"
    damping = RosterConfig(burst=1_000_000, swaps_per_s=1_000_000.0)
    directory = Directory(registry, SYSTEM, config=damping)
    seen: dict[int, float] = {}

    def heard(instances: tuple[Instance, ...]) -> None:
        seen.setdefault(len(instances), time.monotonic())

    directory.subscribe(service, heard)
    await registrar.tell(f"+ {service} stays 1")
    await directory.ready(service, 5)
    waits = []
    for number in range(rounds):
        for sign, count in (("+", 2), ("-", 1)):
            await SYSTEM.sleep(0.05)
            seen.clear()
            began = await registrar.tell(f"{sign} {service} {number} 1")
            await until(nothing, lambda _, count=count: count in seen)
            waits.append((seen[count] - began) * 1e3)
    await registrar.tell(f"- {service} stays 1")
    await directory.close()
    await registry.close()
    return waits


async def nothing() -> None:
    pass


async def gateway_ms(
    url: str, registrar: Registrar, folder: Path, rounds: int
) -> tuple[list[float], list[float]]:
    service, registry = f"bench-{uuid.uuid4().hex}", opened(url)
    rules = (
        f"clusters: {{up: {{service: {service}}}}}\n"
        "rules: [{name: all, match: {path_prefix: /}, forward: up}]\n"
    )
    async with contextlib.AsyncExitStack() as stack:
        stays, comes = [await stack.enter_async_context(answering(who)) for who in ("s", "c")]
        worker = await stack.enter_async_context(running(folder, rules, registry=registry))
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{worker.port}")
        )
        await registrar.tell(f"+ {service} stays {stays}")
        await until(lambda: http.get("/"), lambda answer: answer.is_success)
        shown, gone = [], []
        for number in range(rounds):
            await SYSTEM.sleep(1.0)
            telling = asyncio.ensure_future(registrar.tell(f"+ {service} {number} {comes}"))
            at = await first_answer_of(http, "c")
            shown.append((at - await telling) * 1e3)
            await SYSTEM.sleep(1.0)
            telling = asyncio.ensure_future(registrar.tell(f"- {service} {number} {comes}"))
            at = await last_answer_of(http, "c")
            gone.append(max(0.0, at - await telling) * 1e3)
        await registrar.tell(f"- {service} stays {stays}")
    return shown, gone


async def first_answer_of(http: httpx.AsyncClient, who: str) -> float:
    async with asyncio.timeout(10):
        while (await http.get("/")).text != who:
            pass
    return time.monotonic()


async def last_answer_of(http: httpx.AsyncClient, who: str, quiet_s: float = 0.4) -> float:
    last = time.monotonic()
    while time.monotonic() - last < quiet_s:
        asked = time.monotonic()
        if (await http.get("/")).text == who:
            last = asked
    return last


@contextlib.asynccontextmanager
async def answering(who: str) -> AsyncIterator[int]:
    """An instance that answers every request with one letter; yields its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + who.encode())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def client_us(url: str) -> Row:
    """Microseconds of processor time of this process, by method."""
    registry, prefix = opened(url), f"bench-{uuid.uuid4().hex}"
    one = Instance(f"{prefix}-1", prefix, "127.0.0.1", 9000)
    registration = await registry.register(one, ttl_s=120)
    session = await registry.session("bench", ttl_s=600)
    await asyncio.gather(*[registry.kv_put(f"{prefix}/{n}", b"x" * 200) for n in range(10)])
    methods: dict[str, Callable[[], Awaitable[object]]] = {
        "leader": registry.leader,
        "instances": lambda: registry.instances(prefix),
        "kv_get": lambda: registry.kv_get(f"{prefix}/1"),
        "kv_list_of_10": lambda: registry.kv_list(f"{prefix}/"),
        "kv_put": lambda: registry.kv_put(f"{prefix}/1", b"x" * 200),
        "acquire": lambda: session.acquire(f"{prefix}/held", b"me"),
        "heartbeat": lambda: registry.consul.agent.check.ttl_pass(f"service:{one.id}"),  # type: ignore[attr-defined]
        "register_and_deregister": lambda: both(registry, f"{prefix}-2"),
    }
    row: Row = {}
    for name, call in methods.items():
        await call()
        began = time.process_time()
        for _ in range(CALLS):
            await call()
        row[f"{name}_us"] = round((time.process_time() - began) / CALLS * 1e6, 1)
    await session.close()
    await registration.deregister()
    await registry.close()
    return row


async def both(registry: Registry, service: str) -> None:
    registration = await registry.register(Instance(service, service, "127.0.0.1", 1))
    await registration.deregister()


def spread(name: str, waits: list[float]) -> Row:
    ordered = sorted(waits)
    last = len(ordered) - 1
    return {
        f"{name}_p50_ms": round(ordered[last // 2], 2),
        f"{name}_p99_ms": round(ordered[min(last, round(last * 0.99))], 2),
    }


async def measured(kind: str, url: str, rounds: int) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        async with Registrar.started(url) as registrar:
            seen = await directory_ms(url, registrar, rounds)
            shown, gone = await gateway_ms(url, registrar, Path(folder), max(4, rounds // 4))
    return {
        "registry": kind,
        **spread("directory", seen),
        **spread("gateway_first_answer", shown),
        **spread("gateway_last_answer", gone),
        **await client_us(url),
    }


def run(rounds: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        embedded = EmbeddedServer(Path(folder))
        try:
            rows = [uvloop.run(measured("embedded", embedded.url, rounds))]
        finally:
            embedded.stop()
    try:
        consul = real.url("consul")
    except pytest.skip.Exception as missing:
        print(missing, file=sys.stderr)
        return rows
    return [*rows, uvloop.run(measured("consul", consul, rounds))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--registrar", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.registrar:
        uvloop.run(registrar(options.registrar))
    else:
        report = {"bench": "registry", "registries": run(options.rounds), "bars": BARS}
        print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
