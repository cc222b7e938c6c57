"""Instances that report their load with their answers: whose word it is, and that it stays here."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from chassis.clock import ManualClock
from chassis.discovery.balancer import Standing
from gateway.worker import Worker
from tests.gateway.test_attempting import answer, first_then
from tests.gateway.test_racing import FAST_ANSWER, SLOW, USUAL_S, race
from tests.support.gateways import GET, Raw, fields_of, one_rule, running, status_of
from tests.support.scripted import Holds, Reads, Repeats, Scripted, Sends, answers, eventually

LOAD = b"Endpoint-Load-Metrics: TEXT cpu_utilization=0.4\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + LOAD + b"\r\nok"
UPGRADE = GET.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
SWITCH = b"HTTP/1.1 101 On\r\nConnection: upgrade\r\nUpgrade: websocket\r\n" + LOAD + b"\r\n"


def standing(worker: Worker, of: Scripted) -> Standing:
    found = worker.gateway.origins["up"].balancer.standings().values()
    return next(one for one in found if one.instance.port == of.port)


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (GET, PLAIN),
        (GET.replace(b"GET", b"HEAD"), PLAIN[:-2]),
        (GET.replace(b"1.1", b"1.0"), PLAIN),
        (GET, PLAIN.replace(b"200 OK", b"404 No")),
        (GET, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + LOAD + b"\r\n1\r\na\r\n"),
        (GET, b"HTTP/1.1 200 OK\r\n" + LOAD + b"\r\nuntil the end"),
        (GET, b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + LOAD + b"\r\nid: 1\n\n"),
        (UPGRADE, SWITCH),
    ],
)
async def test_whatever_the_answer_its_head_tells_us_and_not_the_client(
    request_: bytes, told: bytes, tmp_path: Path
) -> None:
    async with (
        Scripted(answers(told)) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(request_)
        assert b"endpoint-load-metrics" not in fields_of(await client.head())
        assert standing(worker, upstream).utilisation == 0.4


async def test_a_report_among_the_trailers_is_not_passed_on(tmp_path: Path) -> None:
    trailed = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n"
    async with (
        Scripted(answers(trailed + LOAD + b"X-Sum: 1\r\n\r\n")) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(GET)
        await client.head()
        assert (await client.head()) == b"2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n"


async def test_a_head_that_is_recognised_tells_again(tmp_path: Path) -> None:
    async with (
        Scripted(answers(PLAIN)) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        for _ in range(3):
            client.send(GET)
            assert await client.answer() == (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", b"ok")
            known = standing(worker, upstream)
            assert known.utilisation == 0.4
            known.utilisation = None


async def test_an_instance_that_says_nothing_or_nonsense_is_served_and_not_known(
    tmp_path: Path,
) -> None:
    nonsense = PLAIN.replace(b"0.4", b"-\xff")
    script = [Reads(), Sends(PLAIN.replace(LOAD, b"")), Reads(), Sends(nonsense)]
    async with (
        Scripted(script) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        for _ in range(2):
            client.send(GET)
            assert (await client.answer())[1] == b"ok"
        assert standing(worker, upstream).utilisation is None


@pytest.mark.parametrize("body", ["whole", "in pieces"])
async def test_an_answer_that_is_tried_again_elsewhere_tells_of_who_gave_it(
    body: str, tmp_path: Path
) -> None:
    refused = answer(503, LOAD[:-2])
    if body == "in pieces":
        refused = refused.replace(b"Content-Length: 2", b"Content-Length: 9")
    async with (
        Scripted(answers(refused)) as busy,
        Scripted(answers(PLAIN.replace(b"0.4", b"0.1"))) as other,
        running(tmp_path, one_rule(busy.port, other.port)) as worker,
        Raw(worker.port) as client,
    ):
        first_then(worker, busy)
        client.send(GET)
        assert status_of((await client.answer())[0]) == 200
        assert standing(worker, busy).utilisation == 0.4
        assert standing(worker, other).utilisation == 0.1


async def test_a_second_attempt_that_wins_tells_of_its_own_instance(tmp_path: Path) -> None:
    fast = FAST_ANSWER.replace(b"\r\n\r\n", b"\r\n" + LOAD + b"\r\n")
    async with race(tmp_path, SLOW, [Repeats([Reads(), Sends(fast)])]) as told:
        await told.ask()
        told.clock.tick(USUAL_S * 1.1)
        assert (await told.client.answer())[1] == b"fast"
        assert standing(told.worker, told.fast).utilisation == 0.4
        assert standing(told.worker, told.slow).utilisation is None


async def test_a_second_attempt_whose_answer_is_not_passed_on_tells_too(tmp_path: Path) -> None:
    go = asyncio.Event()
    slow = [Reads(), Holds(go), Sends(PLAIN.replace(b"0.4", b"0.9"))]
    async with race(tmp_path, slow, answers(answer(503, LOAD[:-2]))) as told:
        await told.ask()
        told.clock.tick(USUAL_S * 1.1)
        await eventually(lambda: told.hedged("failed") == 1)
        assert standing(told.worker, told.fast).utilisation == 0.4
        go.set()
        assert (await told.client.answer())[1] == b"ok"
        assert standing(told.worker, told.slow).utilisation == 0.9


async def test_what_was_last_reported_is_on_the_admin_port(tmp_path: Path) -> None:
    async with (
        Scripted(answers(PLAIN)) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{worker.admin_port}") as admin,
    ):
        client.send(GET)
        await client.answer()
        (cluster,) = (await admin.get("/clusters")).json()
        assert cluster["instances"][0]["standing"]["utilisation"] == 0.4


async def test_of_two_instances_the_fuller_gets_the_smaller_part(tmp_path: Path) -> None:
    clock = ManualClock()
    async with (
        Scripted(answers(PLAIN.replace(b"0.4", b"0.95"))) as full,
        Scripted(answers(PLAIN.replace(b"0.4", b"0.10"))) as idle,
        running(tmp_path, one_rule(full.port, idle.port), clock=clock) as worker,
        Raw(worker.port) as client,
    ):
        for _ in range(40):
            client.send(GET)
            await client.answer()
        clock.tick(0.2)
        before = [peer.received.count(b"GET") for peer in (full, idle)]
        for _ in range(200):
            client.send(GET)
            await client.answer()
        got = [peer.received.count(b"GET") for peer in (full, idle)]
    assert got[0] - before[0] < 0.3 * (got[1] - before[1])
