"""Calls to peers: found, isolated, repeated only where that is safe, and given back whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from chassis.clock import ManualClock
from chassis.contracts.wire import Call, Wire
from chassis.deadline import Deadline
from chassis.discovery import Instance
from chassis.discovery.directory import Directory
from chassis.errors import (
    BreakerOpen,
    BulkheadFull,
    ConnectFailed,
    DeadlineExceeded,
    NoInstances,
    OriginGarbled,
    OriginReset,
    OriginStatus,
    OriginTimeout,
    PeerRefusal,
)
from chassis.http.api import Context
from chassis.http.call_attempt import ANSWER_LIMIT
from chassis.http.peers import Peer, Peers
from chassis.resilience import BreakerConfig, TimerWheel
from chassis.telemetry import Telemetry, Trace
from tests.support.ports import free_port
from tests.support.scripted import (
    Floods,
    Holds,
    Reads,
    Repeats,
    Resets,
    Scripted,
    Sends,
    Step,
    eventually,
)
from tests.support.services import MovingRegistry


class Echo(Wire, frozen=True):
    said: str


ECHO = Call("things", "echo", Echo, Echo)
ONCE = Call("things", "once", Echo, Echo, idempotent=False)
HELLO = Echo(said="hello")
TIMEOUT_S = 1.0


def http(body: bytes, status: str = "200 OK", *headers: bytes) -> bytes:
    lines = [f"HTTP/1.1 {status}".encode(), b"content-length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


ANSWER = http(b'{"said":"hi"}')
TOLD = Sends(ANSWER)
READ = Reads(b'"}')
ANSWERING: list[Step] = [Repeats([READ, TOLD])]


def saying(response: bytes) -> list[Step]:
    return [Repeats([READ, Sends(response)])]


class Side:
    """The calling side of the tests: peers over a registry that the test moves."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.registry = MovingRegistry()
        self.directory = Directory(self.registry, self.clock)
        self.telemetry = Telemetry("asker", "asker-1", self.clock)
        self.wheel = TimerWheel(self.clock)
        self.peers = Peers(self.directory, self.wheel, self.telemetry, self.clock)

    async def list(self, *instances: Instance) -> None:
        """Lists these instances, and waits until the directory believes it."""
        self.registry.move("things", *instances)
        await self.hears()
        assert [one.id for one in self.directory.instances("things")] == [i.id for i in instances]

    async def hears(self) -> None:
        """Lets the directory ask again."""
        for _ in range(20):
            await self.clock.advance(0.05)

    async def peer(self, *scripted: Scripted, **options: Any) -> Peer[Echo, Echo]:
        options.setdefault("timeout_s", TIMEOUT_S)
        peer = self.peers.to(options.pop("call", ECHO), **options)
        await self.list(*(at(one.port, f"t{number}") for number, one in enumerate(scripted)))
        return peer

    def context(self, deadline: Deadline | None = None, passport: bytes = b"") -> Context:
        trace = Trace.new(self.clock)
        return Context(deadline or Deadline.never(self.clock), trace, passport)

    def given_back(self, peer: Peer[Echo, Echo]) -> bool:
        busy = [one.in_flight for one in peer.balancer.standings().values()]
        return peer.policy.snapshot().in_flight == 0 and not any(busy)


def at(port: int, name: str = "t0") -> Instance:
    return Instance(name, "things", "127.0.0.1", port)


@pytest.fixture
async def side() -> AsyncIterator[Side]:
    side = Side()
    yield side
    await side.directory.close()
    await side.peers.close()
    side.telemetry.close()


@asynccontextmanager
async def under_way(
    peer: Peer[Echo, Echo], side: Side, context: Context | None = None
) -> AsyncIterator[asyncio.Task[Echo]]:
    task = asyncio.ensure_future(peer(HELLO, context or side.context()))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def requests(*peers: Scripted) -> int:
    return sum(peer.received.count(b"POST ") for peer in peers)


def told_ms(peer: Scripted) -> int:
    return int(peer.received.partition(b"x-request-timeout-ms: ")[2].split()[0])


# --- one attempt


async def test_a_request_tells_who_asks_for_how_long_and_in_which_trace(side: Side) -> None:
    async with Scripted(ANSWERING) as things:
        peer = await side.peer(things)
        context = side.context(Deadline.after(side.clock, 0.2), b"k1.signed")
        assert await peer(HELLO, context) == Echo(said="hi")
    head, _, body = things.received.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /call/echo HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n" % things.port)
    assert b"\r\nx-passport: k1.signed" in head
    assert told_ms(things) == pytest.approx(200, abs=1)
    trace_id, span_id = context.trace.trace_id.encode(), context.trace.span_id.encode()
    assert b"traceparent: 00-" + trace_id in head and span_id not in head
    assert body == b'{"said":"hello"}'


async def test_the_peer_is_told_when_nobody_waits_any_more(side: Side) -> None:
    async with Scripted(ANSWERING) as things:
        peer = await side.peer(things, timeout_s=0.25)
        await peer(HELLO, side.context())
    assert told_ms(things) == pytest.approx(250, abs=1)


async def test_calls_one_after_the_other_share_a_connection(side: Side) -> None:
    async with Scripted(ANSWERING) as things:
        peer = await side.peer(things)
        for _ in range(3):
            await peer(HELLO, side.context())
        assert len(things.connections) == 1
        assert side.given_back(peer)


async def test_a_refusal_of_the_peer_is_its_answer_and_no_failure_of_its_own(side: Side) -> None:
    problem = http(
        b'{"status":409,"code":"taken","by":"you"}',
        "409 Conflict",
        b"content-type: application/problem+json",
    )
    async with Scripted(saying(problem)) as things:
        peer = await side.peer(things)
        with pytest.raises(PeerRefusal) as refusal:
            await peer(HELLO, side.context())
    assert (refusal.value.status, refusal.value.code) == (409, "taken")
    assert refusal.value.members == {"by": "you"}
    assert peer.policy.snapshot().success == 1
    assert peer.balancer.standings()["t0"].failures == 0


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("404 Not Found", "no_such_path"),
        ("405 Method Not Allowed", "method_not_allowed"),
        ("401 Unauthorized", "expired"),
        ("404 Not Found", ""),
    ],
)
async def test_whoever_does_not_know_the_call_at_all_has_refused_nothing(
    side: Side, status: str, code: str
) -> None:
    told = http(b'{"code":"%b"}' % code.encode(), status, b"content-type: application/problem+json")
    async with Scripted(saying(told)) as things:
        peer = await side.peer(things)
        with pytest.raises(OriginGarbled, match=code or "peer_refused"):
            await peer(HELLO, side.context())
    assert peer.policy.snapshot().failure == 1
    assert peer.balancer.standings()["t0"].failures == 1


@pytest.mark.parametrize(
    "response",
    [
        http(b"<html>"),
        http(b'{"said":3}'),
        http(b'{"said":"\xff"}'),
        http(b'{"said":"hi","new":' + b"[" * 5000),
        http(b""),
        http(b'{"said":"hi"}', "302 Found", b"location: /elsewhere"),
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx",
        b"SSH-2.0-OpenSSH_9.7\r\n\r\n",
    ],
)
async def test_what_is_no_answer_is_garbled_and_counts_against_the_instance(
    side: Side, response: bytes
) -> None:
    async with Scripted(saying(response)) as things:
        peer = await side.peer(things)
        with pytest.raises(OriginGarbled):
            await peer(HELLO, side.context())
        assert requests(things) == 1
    assert peer.balancer.standings()["t0"].failures == 1
    assert side.given_back(peer)


async def test_an_answer_that_is_too_large_is_cut_off(side: Side) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (ANSWER_LIMIT * 4)
    async with Scripted([READ, Sends(head), Floods(ANSWER_LIMIT * 4)]) as things:
        peer = await side.peer(things)
        with pytest.raises(OriginGarbled, match="longer than"):
            await peer(HELLO, side.context())
        await asyncio.wait_for(things.connections[0].lost.wait(), 5)
    assert side.given_back(peer)


LOAD = b"endpoint-load-metrics: TEXT cpu_utilization=0.4"


@pytest.mark.parametrize("body", [b'{"said":"hi"}', b'{"said":"' + b"x" * 300_000 + b'"}'])
async def test_the_balancer_is_told_what_an_instance_reports_of_its_load(
    side: Side, body: bytes
) -> None:
    async with Scripted(saying(http(body, "200 OK", LOAD))) as things:
        peer = await side.peer(things)
        for _ in range(2):
            await peer(HELLO, side.context())
            assert peer.balancer.standings()["t0"].utilisation == 0.4


async def test_a_refusal_too_tells_of_the_load_of_who_refuses(side: Side) -> None:
    refusal = http(b'{"status":503,"code":"shed"}', "503 No", LOAD)
    async with Scripted(saying(refusal)) as things:
        peer = await side.peer(things)
        with pytest.raises(OriginStatus):
            await peer(HELLO, side.context())
    assert peer.balancer.standings()["t0"].utilisation == 0.4


# --- another attempt


async def test_what_could_not_be_sent_goes_to_another_instance(side: Side) -> None:
    async with Scripted(ANSWERING) as things:
        peer = side.peers.to(ECHO, timeout_s=TIMEOUT_S)
        await side.list(at(free_port(), "dead"), at(things.port, "good"))
        for _ in range(8):
            assert await peer(HELLO, side.context()) == Echo(said="hi")
        assert requests(things) == 8


async def test_there_is_one_more_attempt_and_no_third(side: Side) -> None:
    peer = side.peers.to(ECHO, timeout_s=TIMEOUT_S)
    await side.list(*(at(free_port(), f"dead{number}") for number in range(5)))
    with pytest.raises(ConnectFailed):
        await peer(HELLO, side.context())
    assert sum(one.failures for one in peer.balancer.standings().values()) == 2
    assert peer.policy.snapshot().failure == 1


async def test_what_may_have_been_processed_is_never_sent_again(side: Side) -> None:
    async with Scripted([READ, Resets()]) as one, Scripted([READ, Resets()]) as other:
        peer = await side.peer(one, other)
        with pytest.raises(OriginReset):
            await peer(HELLO, side.context())
        assert requests(one, other) == 1


async def test_a_failure_that_the_peer_tells_is_not_repeated(side: Side) -> None:
    down = http(b'{"status":503,"code":"store_unavailable"}', "503 Service Unavailable")
    async with Scripted(saying(down)) as one, Scripted(saying(down)) as other:
        peer = await side.peer(one, other)
        with pytest.raises(OriginStatus):
            await peer(HELLO, side.context())
        assert requests(one, other) == 1


LOST_WHEN_KEPT: Sequence[Sequence[Step]] = [[READ, TOLD, READ, Resets()], ANSWERING]


async def test_a_kept_connection_that_is_lost_is_no_reason_to_fail_an_idempotent_call(
    side: Side,
) -> None:
    async with Scripted(*LOST_WHEN_KEPT) as things:
        peer = await side.peer(things)
        for _ in range(2):
            assert await peer(HELLO, side.context()) == Echo(said="hi")
        assert len(things.connections) == 2


async def test_a_call_that_may_not_be_repeated_fails_with_its_kept_connection(side: Side) -> None:
    async with Scripted(*LOST_WHEN_KEPT) as things:
        peer = await side.peer(things, call=ONCE)
        await peer(HELLO, side.context())
        with pytest.raises(OriginReset):
            await peer(HELLO, side.context())
        assert requests(things) == 2


async def test_a_kept_connection_lost_within_an_answer_is_a_failure(side: Side) -> None:
    half: list[Step] = [READ, TOLD, READ, Sends(ANSWER[:-5]), Resets()]
    async with Scripted(half, ANSWERING) as things:
        peer = await side.peer(things)
        await peer(HELLO, side.context())
        with pytest.raises(OriginReset):
            await peer(HELLO, side.context())
        assert requests(things) == 2


# --- being late, and being left


async def test_an_instance_that_hangs_is_avoided_after_its_first_timeout(side: Side) -> None:
    async with Scripted([Holds(asyncio.Event())]) as hung, Scripted(ANSWERING) as good:
        peer = await side.peer(hung, good)
        for _ in range(12):
            seen = requests(hung)
            async with under_way(peer, side) as task:
                await eventually(lambda task=task, seen=seen: task.done() or requests(hung) > seen)
                await side.clock.advance(TIMEOUT_S + 0.02)
        assert requests(hung) <= 1


async def test_a_timeout_is_the_instances_failure(side: Side) -> None:
    async with Scripted([Holds(asyncio.Event())]) as hung:
        peer = await side.peer(hung)
        async with under_way(peer, side) as task:
            await eventually(lambda: requests(hung) == 1)
            await side.clock.advance(TIMEOUT_S + 0.02)
            with pytest.raises(OriginTimeout):
                await task
        assert peer.balancer.standings()["t0"].failures == 1
        await asyncio.wait_for(hung.connections[0].lost.wait(), 5)
    assert side.given_back(peer)


async def test_a_caller_that_leaves_early_says_nothing_of_the_instance(side: Side) -> None:
    async with Scripted([Holds(asyncio.Event())]) as hung:
        peer, context = await side.peer(hung), side.context()
        async with under_way(peer, side, context) as task:
            await eventually(lambda: requests(hung) == 1)
            await side.clock.advance(TIMEOUT_S / 4)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        standing = peer.balancer.standings()["t0"]
        assert (standing.failures, standing.latency_s) == (0, 0.0)
        await asyncio.wait_for(hung.connections[0].lost.wait(), 5)
    assert side.given_back(peer)
    (span,) = side.telemetry.spans.of_trace(context.trace.trace_id)
    assert (span.name, span.outcome) == ("call things.echo", "client_gone")


@pytest.mark.parametrize("turns", range(12))
async def test_whenever_a_caller_leaves_everything_is_given_back(side: Side, turns: int) -> None:
    halves: list[Step] = [READ, Sends(ANSWER, by=9), READ, Sends(ANSWER, by=9)]
    async with Scripted(halves) as things:
        peer = await side.peer(things)
        async with under_way(peer, side) as task:
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert side.given_back(peer)
        pool = side.peers.pool(at(things.port))
        await eventually(lambda: pool.open == pool.idle)
        assert side.wheel.armed == 0


async def test_a_deadline_that_passed_sends_nothing(side: Side) -> None:
    async with Scripted(ANSWERING) as things:
        peer = await side.peer(things)
        with pytest.raises(DeadlineExceeded):
            await peer(HELLO, side.context(Deadline.after(side.clock, 0)))
        assert things.connections == []


# --- isolation


async def test_a_full_bulkhead_refuses_before_anything_is_sent(side: Side) -> None:
    async with Scripted([Holds(asyncio.Event())]) as hung:
        peer = await side.peer(hung, bulkhead=1)
        async with under_way(peer, side):
            await eventually(lambda: requests(hung) == 1)
            with pytest.raises(BulkheadFull):
                await peer(HELLO, side.context())
            assert requests(hung) == 1


async def test_the_breaker_opens_spares_the_peer_and_closes_when_it_is_well_again(
    side: Side,
) -> None:
    config = BreakerConfig(size=4, min_calls=4, probes=1, open_s=5)
    broken = http(b"{}", "500 Internal Server Error")
    script: list[Step] = [READ, Sends(broken)] * 4
    async with Scripted(script, ANSWERING) as things:
        peer = await side.peer(things, breaker=config)
        for _ in range(4):
            with pytest.raises(OriginStatus):
                await peer(HELLO, side.context())
        with pytest.raises(BreakerOpen) as refused:
            await peer(HELLO, side.context())
        assert requests(things) == 4 and (refused.value.retry_after_s or 0) > 0
        await side.clock.advance(5.1)
        assert await peer(HELLO, side.context()) == Echo(said="hi")
        assert peer.policy.snapshot().state == "closed"


async def test_without_an_instance_nobody_is_asked(side: Side) -> None:
    peer = await side.peer()
    with pytest.raises(NoInstances, match="things"):
        await peer(HELLO, side.context())


async def test_a_call_is_prepared_once(side: Side) -> None:
    side.peers.to(ECHO, timeout_s=1)
    with pytest.raises(ValueError, match=r"things\.echo"):
        side.peers.to(ECHO, timeout_s=2)


# --- instances that come and go


async def test_connections_to_an_instance_that_is_gone_are_closed(side: Side) -> None:
    async with Scripted(ANSWERING) as old, Scripted(ANSWERING) as new:
        peer = await side.peer(old)
        await peer(HELLO, side.context())
        await side.list(at(new.port))
        await asyncio.wait_for(old.connections[0].lost.wait(), 5)
        assert await peer(HELLO, side.context()) == Echo(said="hi")
        assert requests(new) == 1


async def test_what_is_under_way_on_an_instance_that_goes_may_finish(side: Side) -> None:
    go = asyncio.Event()
    async with Scripted([READ, Holds(go), TOLD]) as old, Scripted(ANSWERING) as new:
        peer = await side.peer(old)
        async with under_way(peer, side) as task:
            await eventually(lambda: requests(old) == 1)
            await side.list(at(new.port))
            go.set()
            assert await task == Echo(said="hi")
        await asyncio.wait_for(old.connections[0].lost.wait(), 5)


async def test_two_services_at_one_address_keep_its_connections(side: Side) -> None:
    async with Scripted(ANSWERING) as things:
        peer = await side.peer(things)
        side.peers.to(Call("others", "echo", Echo, Echo), timeout_s=1)
        await peer(HELLO, side.context())
        side.registry.move("others", Instance("o0", "others", "127.0.0.1", things.port))
        await side.hears()
        side.registry.move("others", Instance("o0", "others", "127.0.0.1", free_port()))
        await side.list(at(things.port))
        await peer(HELLO, side.context())
        assert len(things.connections) == 1


async def test_closing_closes_what_is_idle(side: Side) -> None:
    async with Scripted(ANSWERING) as things:
        peer = await side.peer(things)
        await peer(HELLO, side.context())
        await side.peers.close()
        await asyncio.wait_for(things.connections[0].lost.wait(), 5)
