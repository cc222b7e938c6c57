"""Who gets how much, with real sockets: slow, dead and lying instances beside good ones."""

from __future__ import annotations

import asyncio
import collections
from pathlib import Path

import pytest

from chassis.clock import SYSTEM, ManualClock
from chassis.discovery import Instance
from gateway.origins import NoDirectory, Origin, Origins
from gateway.rules.model import Cluster
from gateway.worker import Worker
from tests.support.gateways import GET, Raw, one_rule, running, status_of
from tests.support.ports import free_port
from tests.support.scripted import (
    OK,
    Link,
    Reads,
    Repeats,
    Scripted,
    Sends,
    Step,
    answers,
)


class Pauses(Step):
    """Takes its time over each answer."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def play(self, link: Link) -> None:
        await SYSTEM.sleep(self.seconds)


def taking(seconds: float) -> list[Step]:
    return [Repeats([Reads(), Pauses(seconds), Sends(OK)])]


async def load(worker: Worker, seconds: float, clients: int = 24) -> collections.Counter[int]:
    """Statuses of what so many clients got who asked again and again for so long."""
    statuses: collections.Counter[int] = collections.Counter()
    until = SYSTEM.monotonic() + seconds

    async def ask() -> None:
        async with Raw(worker.port) as client:
            while SYSTEM.monotonic() < until:
                client.send(GET)
                statuses[status_of((await client.answer())[0])] += 1

    await asyncio.gather(*(ask() for _ in range(clients)))
    return statuses


def asked(peer: Scripted) -> int:
    return peer.received.count(b"GET / ")


async def test_one_of_five_that_is_twenty_times_slower_gets_little_within_two_seconds(
    tmp_path: Path,
) -> None:
    async with (
        Scripted(taking(0.01)) as a,
        Scripted(taking(0.01)) as b,
        Scripted(taking(0.01)) as c,
        Scripted(taking(0.01)) as d,
        Scripted(taking(0.2)) as slow,
        running(tmp_path, one_rule(a.port, b.port, c.port, d.port, slow.port)) as worker,
    ):
        await load(worker, 1.0)
        before = [asked(peer) for peer in (a, b, c, d, slow)]
        await load(worker, 1.0)
        got = [asked(peer) - n for peer, n in zip((a, b, c, d, slow), before, strict=True)]
        assert got[-1] < 0.05 * sum(got)
        assert max(got[:4]) < 2 * min(got[:4])


async def test_dead_instances_are_left_out_within_a_second_and_come_back(tmp_path: Path) -> None:
    ports = [free_port(), free_port(), free_port()]
    async with (
        Scripted(taking(0.002)) as good,
        Scripted(taking(0.002)) as other,
        running(tmp_path, one_rule(good.port, *ports, other.port)) as worker,
    ):
        origin = worker.gateway.origins["up"]
        first = await load(worker, 1.0)
        standings = origin.balancer.standings().values()
        assert sorted(s.instance.port for s in standings if s.absences) == sorted(ports)
        assert first[502] < 0.02 * first.total()
        before = asked(good) + asked(other)
        second = await load(worker, 0.5)
        assert set(second) == {200}
        assert second[200] <= asked(good) + asked(other) - before
        server = await asyncio.start_server(_serve, "127.0.0.1", ports[0])
        async with asyncio.timeout(10):
            while (await load(worker, 0.2))[200] and not _is_used(origin, ports[0]):
                pass
        server.close()
        await server.wait_closed()


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(OK)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def _is_used(origin: Origin, port: int) -> bool:
    standings = origin.balancer.standings().values()
    return any(s.instance.port == port and s.good and not s.ejected for s in standings)


async def test_one_of_two_gateways_does_not_push_the_other_to_the_same_instance(
    tmp_path: Path,
) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    async with (
        Scripted(taking(0.005)) as a,
        Scripted(taking(0.005)) as b,
        Scripted(taking(0.005)) as c,
        running(folders[0], one_rule(a.port, b.port, c.port)) as one,
        running(folders[1], one_rule(a.port, b.port, c.port)) as two,
    ):
        await asyncio.gather(load(one, 0.8, 12), load(two, 0.8, 12))
        got = [asked(peer) for peer in (a, b, c)]
        assert max(got) < 1.6 * min(got)


class Told:
    """A directory that says whatever the test wants."""

    def __init__(self, *instances: Instance) -> None:
        self.now = instances

    def watch(self, service: str) -> None: ...

    def instances(self, service: str) -> tuple[Instance, ...]:
        return self.now


def listed(*ports: int) -> tuple[Instance, ...]:
    return tuple(Instance(str(port), "up", "127.0.0.1", port) for port in ports)


@pytest.mark.parametrize("lie", ["nobody", "another protocol", "silence"])
async def test_a_registry_that_lies_costs_no_more_than_it_takes_to_find_out(
    lie: str, tmp_path: Path
) -> None:
    scripts: dict[str, list[Step]] = {
        "another protocol": [Sends(b"220 mail.example ESMTP\r\n")],
        "silence": [Reads(), Reads(b"never")],
    }
    rules = (
        "clusters:\n  up: {instances: [PORTS]}\n"
        "rules:\n  - name: all\n    forward: up\n    retry: {attempt_timeout_s: 0.3, attempts: 3}\n"
    )
    async with (
        Scripted(taking(0.001)) as good,
        Scripted(taking(0.001)) as other,
        Scripted(scripts.get(lie, [])) as liar,
    ):
        port = free_port() if lie == "nobody" else liar.port
        ports = ", ".join(f'"127.0.0.1:{p}"' for p in (good.port, port, other.port))
        async with running(tmp_path, rules.replace("PORTS", ports)) as worker:
            statuses = await load(worker, 0.8, 8)
            assert statuses[200] > 50
            assert statuses.total() - statuses[200] <= 10, statuses


async def test_an_instance_that_flaps_keeps_the_others_pools_and_what_is_known_of_them() -> None:
    directory = Told(*listed(1, 2, 3))
    origins = Origins(directory, NoDirectory(), ManualClock())
    origin = origins.adopt({"up": Cluster(service="up")})["up"]
    origin.choose(0.0)
    steady = origin.pool(directory.now[0])
    origin.balancer.standings()["1"].latency_s = 0.25
    for _ in range(50):
        directory.now = listed(1, 2)
        origin.choose(0.0)
        directory.now = listed(1, 2, 3)
        origin.choose(0.0)
    assert origin.pool(directory.now[0]) is steady
    assert origin.balancer.standings()["1"].latency_s == 0.25
    assert len(origin.balancer.standings()) == 3
    await origins.close()


async def test_whoever_joins_a_serving_cluster_ramps(tmp_path: Path) -> None:
    async with Scripted(taking(0.002)) as a, Scripted(taking(0.002)) as b:
        directory = Told(*listed(a.port))
        async with (
            Scripted(answers()) as unused,
            running(tmp_path, one_rule(unused.port)) as worker,
        ):
            cluster, turn_end = Cluster(service="up"), worker.gateway.turn_end
            origin = Origin("up", cluster, lambda: directory.now, SYSTEM, turn_end)
            worker.gateway.origins._origins["up"] = origin
            worker.gateway.serving.ready(
                worker.gateway.serving.snapshot.routes["all"]
            ).origin = origin
            await load(worker, 0.3)
            before = asked(a)
            directory.now = listed(a.port, b.port)
            await load(worker, 0.5)
            assert 0 < asked(b) < 0.25 * (asked(a) - before + asked(b))
            await origin.close()
