"""Hedges: a second attempt beside one that takes longer than most. Time is the test's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chassis.clock import ManualClock
from gateway.worker import Worker
from tests.gateway.test_attempting import KEYED, POST, answer, counted, first_then
from tests.support.gateways import GET, Raw, one_rule, running, status_of
from tests.support.scripted import (
    OK,
    Holds,
    Link,
    Reads,
    Repeats,
    Resets,
    Scripted,
    Sends,
    Step,
    answers,
    eventually,
)

USUAL_S = 0.1
SLOW: list[Step] = [Reads(), Reads()]
FAST_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfast"


class Race:
    """A gateway whose rule hedges, over two instances; requests go to `slow` first."""

    def __init__(
        self, worker: Worker, clock: ManualClock, slow: Scripted, fast: Scripted, client: Raw
    ) -> None:
        self.worker = worker
        self.clock = clock
        self.slow = slow
        self.fast = fast
        self.client = client
        origin = worker.gateway.origins["up"]
        origin.quantile(0.95)
        for _ in range(40):
            origin.learn(USUAL_S)
        first_then(worker, slow)

    async def ask(self, request: bytes = GET) -> None:
        """Sends, and waits until the slow instance has it."""
        self.client.send(request)
        await eventually(lambda: b"HTTP/1.1\r\n" in self.slow.received)

    def hedged(self, outcome: str) -> float:
        return counted(self.worker, f'hedge_total cluster="up" outcome="{outcome}"')

    def in_flight(self) -> list[int]:
        standings = self.worker.gateway.origins["up"].balancer.standings().values()
        return sorted(s.in_flight % 100 for s in standings)


@asynccontextmanager
async def race(
    folder: Path,
    slow: Sequence[Step],
    fast: Sequence[Step],
    *,
    rule: str = "{}",
    in_flight: int = 10_000,
) -> AsyncIterator[Race]:
    clock = ManualClock()
    async with Scripted(slow) as one, Scripted(fast) as two:
        rules = one_rule(one.port, two.port, hedge=rule)
        async with (
            running(folder, rules, clock=clock, in_flight=in_flight) as worker,
            Raw(worker.port) as client,
        ):
            yield Race(worker, clock, one, two, client)


@pytest.mark.parametrize("request_", [GET, KEYED])
async def test_the_second_attempt_wins_and_the_first_is_cancelled(
    request_: bytes, tmp_path: Path
) -> None:
    async with race(tmp_path, SLOW, [Repeats([Reads(), Sends(FAST_ANSWER)])]) as told:
        await told.ask(request_)
        told.clock.tick(USUAL_S * 0.9)
        assert not told.fast.received
        told.clock.tick(USUAL_S * 0.2)
        assert (await told.client.answer())[1] == b"fast"
        async with asyncio.timeout(1):
            await told.slow.connections[0].lost.wait()
        assert told.hedged("won") == 1
        assert told.in_flight() == [0, 0]
        assert b"\r\nx-attempt: 2\r\n" in told.fast.received
        status = 'gateway_origin_attempts_total attempt="hedge" status="200"'
        assert counted(told.worker, status) == 1
        slow = next(
            s
            for s in told.worker.gateway.origins["up"].balancer.standings().values()
            if s.instance.port == told.slow.port
        )
        assert slow.latency_s >= USUAL_S and slow.failures == 0


async def test_the_first_attempt_wins_and_the_second_is_cancelled(tmp_path: Path) -> None:
    go = asyncio.Event()
    slow: list[Step] = [Reads(), Holds(go), Sends(OK), Reads(), Sends(OK)]
    async with race(tmp_path, slow, [Reads(), Reads()]) as told:
        await told.ask()
        told.clock.tick(USUAL_S * 1.1)
        await eventually(lambda: b"GET" in told.fast.received)
        go.set()
        assert (await told.client.answer())[1] == b"ok"
        async with asyncio.timeout(1):
            await told.fast.connections[0].lost.wait()
        assert (told.hedged("lost"), told.hedged("won")) == (1, 0)
        assert told.in_flight() == [0, 0]
        first_then(told.worker, told.slow)
        told.client.send(GET)
        assert (await told.client.answer())[1] == b"ok"


async def test_an_answer_in_pieces_comes_whole_from_whoever_began_first(tmp_path: Path) -> None:
    go = asyncio.Event()
    fast: list[Step] = [
        Reads(),
        Sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfast\r\n"),
        Holds(go),
        Sends(b"3\r\ner!\r\n0\r\n\r\n"),
    ]
    async with race(tmp_path, SLOW, fast) as told:
        await told.ask()
        told.clock.tick(USUAL_S * 1.1)
        assert status_of(await told.client.head()) == 200
        go.set()
        assert await told.client._chunks() == b"faster!"
        assert told.in_flight() == [0, 0]


@pytest.mark.parametrize("bad", [[Reads(), Resets()], answers(answer(503))])
async def test_a_second_attempt_that_fails_changes_nothing(bad: list[Step], tmp_path: Path) -> None:
    go = asyncio.Event()
    async with race(tmp_path, [Reads(), Holds(go), Sends(OK)], bad) as told:
        await told.ask()
        told.clock.tick(USUAL_S * 1.1)
        await eventually(lambda: told.hedged("failed") == 1)
        go.set()
        assert (await told.client.answer())[1] == b"ok"
        assert told.in_flight() == [0, 0]


@pytest.mark.parametrize("ends", [[Resets()], [Sends(answer(503))]])
async def test_when_the_first_fails_the_second_goes_on(ends: list[Step], tmp_path: Path) -> None:
    fails, goes = asyncio.Event(), asyncio.Event()
    slow: list[Step] = [Reads(), Holds(fails), *ends]
    async with race(tmp_path, slow, [Reads(), Holds(goes), Sends(FAST_ANSWER)]) as told:
        await told.ask()
        told.clock.tick(USUAL_S * 1.1)
        await eventually(lambda: b"GET" in told.fast.received)
        fails.set()
        await eventually(lambda: told.in_flight() == [0, 1])
        goes.set()
        assert (await told.client.answer())[1] == b"fast"
        assert told.in_flight() == [0, 0]
        assert told.fast.received.count(b"GET") == 1


async def test_a_client_that_leaves_takes_both_attempts_with_it(tmp_path: Path) -> None:
    async with race(tmp_path, SLOW, SLOW) as told:
        await told.ask()
        told.clock.tick(USUAL_S * 1.1)
        await eventually(lambda: b"GET" in told.fast.received)
        told.client.writer.transport.abort()
        async with asyncio.timeout(1):
            await told.slow.connections[0].lost.wait()
            await told.fast.connections[0].lost.wait()
        await eventually(lambda: told.worker.gateway.in_flight.now == 0)
        assert told.in_flight() == [0, 0]


async def test_what_must_not_be_repeated_is_not_hedged(tmp_path: Path) -> None:
    async with race(tmp_path, SLOW, answers()) as told:
        await told.ask(POST)
        told.clock.tick(5)
        assert not told.fast.connections


async def test_there_is_no_hedge_before_it_is_known_what_is_slow(tmp_path: Path) -> None:
    async with race(tmp_path, SLOW, answers()) as told:
        told.worker.gateway.origins["up"].quantile(0.95).seen = 0
        await told.ask()
        told.clock.tick(5)
        assert not told.fast.connections


async def test_there_is_no_hedge_while_requests_are_shed(tmp_path: Path) -> None:
    async with race(tmp_path, SLOW, answers(), in_flight=1) as told:
        await told.ask()
        async with Raw(told.worker.port) as other:
            other.send(GET)
            assert status_of((await other.answer())[0]) == 503
        told.clock.tick(USUAL_S * 1.1)
        assert told.hedged("shedding") == 1
        assert not told.fast.connections


async def test_hedges_are_paid_out_of_the_same_budget_as_retries(tmp_path: Path) -> None:
    async with race(tmp_path, SLOW, answers()) as told:
        origin = told.worker.gateway.origins["up"]
        while origin.budget.withdraw(origin.calls(), told.clock.monotonic()):
            pass
        await told.ask()
        told.clock.tick(USUAL_S * 1.1)
        assert told.hedged("budget") == 1
        assert not told.fast.connections


async def test_a_rule_without_hedges_arms_no_timer(tmp_path: Path) -> None:
    clock = ManualClock()
    async with (
        Scripted(SLOW) as one,
        Scripted(answers()) as two,
        running(tmp_path, one_rule(one.port, two.port), clock=clock) as worker,
        Raw(worker.port) as client,
    ):
        for _ in range(40):
            worker.gateway.origins["up"].learn(USUAL_S)
        first_then(worker, one)
        client.send(GET)
        await eventually(lambda: bool(one.received))
        clock.tick(1)
        assert not two.connections


class InTurn(Step):
    """Whichever instance is asked first plays the first script, and so on."""

    def __init__(self, *scripts: Sequence[Step]) -> None:
        self.scripts = list(scripts)

    async def play(self, link: Link) -> None:
        await link.until(lambda: bool(link.received))
        for step in self.scripts.pop(0):
            await step.play(link)


async def test_after_a_hedge_that_took_over_a_retry_goes_to_a_third_instance(
    tmp_path: Path,
) -> None:
    fails, ends = asyncio.Event(), asyncio.Event()
    turns: list[Step] = [
        InTurn(
            [Reads(), Holds(fails), Resets()],
            [Reads(), Holds(ends), Resets()],
            [Reads(), Sends(OK)],
        )
    ]
    clock = ManualClock()
    async with (
        Scripted(turns) as one,
        Scripted(turns) as two,
        Scripted(turns) as three,
        running(
            tmp_path,
            one_rule(one.port, two.port, three.port, hedge="{}", retry="{attempts: 3}"),
            clock=clock,
        ) as worker,
        Raw(worker.port) as client,
    ):
        told = Race(worker, clock, one, two, client)

        def asked() -> int:
            return sum(peer.received.count(b"GET") for peer in (one, two, three))

        client.send(GET)
        await eventually(lambda: asked() == 1)
        clock.tick(USUAL_S * 1.1)
        await eventually(lambda: asked() == 2)
        fails.set()
        await eventually(lambda: told.hedged("won") == 1)
        ends.set()
        assert (await client.answer())[1] == b"ok"
        assert [peer.received.count(b"GET") for peer in (one, two, three)] == [1, 1, 1]
