"""Active health checks: what they ask, and what becomes of an instance that answers badly."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from chassis.clock import ManualClock
from chassis.discovery import Instance, background
from chassis.discovery.balancer import Balancer
from gateway.health import HealthChecks, Pulse
from gateway.origins import NoDirectory, Origins
from gateway.rules.model import Cluster, HealthCheck
from tests.support.scripted import (
    OK,
    Closes,
    Reads,
    Resets,
    Scripted,
    Sends,
    Step,
    answers,
    eventually,
)

BAD = b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno"


def test_it_takes_some_bad_answers_in_a_row_to_be_left_out_and_some_good_ones_to_come_back() -> (
    None
):
    pulse = Pulse(HealthCheck(unhealthy_after=3, healthy_after=2))
    heard = [pulse.heard(answer == "+") for answer in "+--+---+-++-"]
    said = "".join("+" if healthy else "-" for healthy in heard)
    assert said == "++++++----++"


def instance(peer: Scripted) -> Instance:
    return Instance(str(peer.port), "up", peer.host, peer.port)


def chosen(balancer: Balancer, instances: Sequence[Instance]) -> set[str]:
    chance = random.Random(1)
    found = [balancer.choose(instances, 0.0, chance.random) for _ in range(100)]
    return {standing.instance.id for standing in found if standing is not None}


@pytest.mark.parametrize(
    "bad",
    [
        answers(BAD),
        [Closes()],
        [Reads(), Resets()],
        [Reads()],
        [Sends(b"SSH-2.0-x\r\n")],
    ],
    ids=["503", "close", "reset", "silence", "ssh"],
)
async def test_an_instance_that_answers_badly_is_left_out_and_comes_back(bad: list[Step]) -> None:
    clock, balancer = ManualClock(), Balancer()
    check = HealthCheck(path="/fit", interval_s=1, timeout_s=0.2, unhealthy_after=2)
    async with Scripted(bad) as one, Scripted(answers()) as two:
        instances = (instance(one), instance(two))
        assert len(chosen(balancer, instances)) == 2
        checks = HealthChecks(check, lambda: instances, balancer, clock)
        task = background.start(checks.run(), "checks")

        async def until(healthy: bool) -> None:
            async with asyncio.timeout(10):
                while balancer.standings()[instances[0].id].healthy is not healthy:
                    clock.tick(0.1)
                    await asyncio.sleep(0.001)

        await until(healthy=False)
        assert chosen(balancer, instances) == {instances[1].id}
        one.scripts = [answers(OK)]
        await until(healthy=True)
        assert len(chosen(balancer, instances)) == 2
        await background.stop(task)
    asked = b"GET /fit HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n" % two.port
    assert two.received.startswith(asked)


async def test_only_clusters_that_ask_for_checks_are_checked_and_only_while_they_serve() -> None:
    async with Scripted(answers()) as peer:
        address = f"{peer.host}:{peer.port}"
        clock = ManualClock()
        origins = Origins(NoDirectory(), NoDirectory(), clock)
        plain = Cluster(instances=(address,))
        checked = Cluster(instances=(address,), health=HealthCheck(host="a.example"))
        origins.adopt({"plain": plain})
        await clock.advance(60)
        assert not peer.connections
        origins.adopt({"checked": checked})
        await eventually(lambda: b"host: a.example\r\n" in peer.received)
        origins.adopt({})
        await origins.close()
        made = len(peer.connections)
        await clock.advance(60)
        assert len(peer.connections) == made
