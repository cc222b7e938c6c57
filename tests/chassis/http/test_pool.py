"""The pool: who gets which connection, who waits, and what is never used again."""

from __future__ import annotations

import asyncio
import random
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.clock import SYSTEM, ManualClock
from chassis.errors import BulkheadFull, ConnectFailed
from chassis.http.connection import Connection
from chassis.http.pool import Address, Idle, Pool, PoolLimits
from tests.support.ports import free_port
from tests.support.scripted import OK, Closes, Holds, Reads, Scripted, Sends, answers, eventually
from tests.support.upstream import Recorder, connected

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


def pool_of(peer: Scripted, clock: ManualClock | None = None, **limits: float) -> Pool:
    return Pool(
        Address(peer.host, peer.port),
        PoolLimits(**limits),  # type: ignore[arg-type]  # counts and seconds alike
        clock=clock or SYSTEM,
    )


async def ask(connection: Connection) -> Recorder:
    recorder = Recorder()
    connection.start(recorder, GET, method=b"GET")
    await recorder.over.wait()
    return recorder


def test_the_last_one_put_back_comes_first() -> None:
    idle = Idle(PoolLimits())
    first, second = connected()[0], connected()[0]
    idle.put(first, 0)
    idle.put(second, 1)
    assert idle.top() is second and idle.top() is first and idle.top() is None


def test_beyond_the_cap_the_oldest_goes() -> None:
    idle = Idle(PoolLimits(idle=1))
    first, second = connected()[0], connected()[0]
    assert idle.put(first, 0) is None
    assert idle.put(second, 1) is first


def test_one_that_was_closed_while_idle_is_passed_over() -> None:
    idle = Idle(PoolLimits())
    alive, closed = connected()[0], connected()[0]
    idle.put(alive, 0)
    idle.put(closed, 1)
    closed.connection_lost(None)
    assert idle.top() is alive


def test_those_idle_for_too_long_expire_oldest_first() -> None:
    idle = Idle(PoolLimits(idle_s=4))
    old, young = connected()[0], connected()[0]
    idle.put(old, 0)
    idle.put(young, 3)
    assert idle.expired(3.9) == []
    assert idle.expired(4.0) == [old]
    assert idle.top() is young


@given(st.floats(min_value=0, max_value=1e6))
def test_what_is_swept_when_it_falls_due_is_gone_however_the_times_round(since: float) -> None:
    """Else the sweep would be due again at once, for ever."""
    idle = Idle(PoolLimits(idle_s=4.0))
    connection = connected()[0]
    idle.put(connection, since)
    assert idle.expired(since + 4.0) == [connection]


async def test_a_connection_is_used_again() -> None:
    async with Scripted(answers()) as peer:
        pool = pool_of(peer)
        assert pool.take() is None
        connection = await pool.connect()
        for _ in range(3):
            await ask(connection)
            pool.give(connection)
            taken = pool.take()
            assert taken is connection
        pool.give(connection)
        assert (pool.opened, pool.reused, pool.idle, len(peer.connections)) == (1, 3, 1, 1)
        await pool.close()


async def test_a_poisoned_connection_is_never_pooled() -> None:
    async with Scripted([Reads(), Sends(OK + b"HTTP/1.1 200 OK\r\nX:")]) as peer:
        pool = pool_of(peer)
        connection = await pool.connect()
        recorder = await ask(connection)
        pool.give(connection)
        assert recorder.body == b"ok" and pool.take() is None
        await eventually(lambda: pool.open == 0)


async def test_a_connection_given_back_amid_an_answer_is_closed() -> None:
    async with Scripted([Reads(), Sends(OK[:-1])]) as peer:
        pool = pool_of(peer)
        connection = await pool.connect()
        recorder = Recorder()
        connection.start(recorder, GET, method=b"GET")
        await eventually(lambda: bool(recorder.heard))
        pool.give(connection)
        assert pool.take() is None
        await eventually(lambda: pool.open == 0 and peer.connections[0].ended)


async def test_a_connection_that_ends_while_idle_is_not_taken() -> None:
    go = asyncio.Event()
    async with Scripted([Reads(), Sends(OK), Holds(go), Closes()], answers()) as peer:
        pool = pool_of(peer)
        connection = await pool.connect()
        await ask(connection)
        pool.give(connection)
        go.set()
        await eventually(lambda: pool.open == 0)
        assert pool.take() is None


async def test_an_end_the_loop_has_not_seen_yet_is_found_by_asking() -> None:
    """No turn of the loop lies between the peer's end and the taking."""
    clock = ManualClock()
    listener = socket.create_server(("127.0.0.1", 0))
    pool = Pool(Address("127.0.0.1", listener.getsockname()[1]), clock=clock)
    connection = await pool.connect()
    accepted, _ = listener.accept()
    pool.give(connection)
    accepted.close()
    clock.tick(1.0)
    assert pool.take() is None
    listener.close()
    await pool.close()


async def test_idle_connections_close_in_time_by_themselves() -> None:
    clock = ManualClock()
    async with Scripted(answers()) as peer:
        pool = pool_of(peer, clock, idle_s=4)
        first, second = await pool.connect(), await pool.connect()
        pool.give(first)
        clock.tick(2)
        pool.give(second)
        clock.tick(2)
        assert pool.idle == 1
        clock.tick(2)
        assert pool.idle == 0
        await eventually(lambda: pool.open == 0)


async def test_an_old_connection_is_not_kept() -> None:
    clock = ManualClock()
    async with Scripted(answers()) as peer:
        pool = pool_of(peer, clock, age_s=100, idle_s=1000)
        connection = await pool.connect()
        assert 80 <= connection.expires_at <= 100
        clock.tick(connection.expires_at)
        pool.give(connection)
        assert pool.idle == 0


async def test_a_worn_connection_is_not_kept() -> None:
    async with Scripted(answers()) as peer:
        pool = pool_of(peer, uses=10)
        connection = await pool.connect()
        assert 8 <= connection.uses_limit <= 10
        for use in range(connection.uses_limit):
            assert use == 0 or pool.take() is connection
            await ask(connection)
            pool.give(connection)
        assert pool.take() is None


async def test_connections_of_one_pool_do_not_all_age_at_once() -> None:
    async with Scripted(answers()) as peer:
        pool = pool_of(peer, ManualClock(), age_s=100)
        made = [await pool.connect() for _ in range(4)]
        assert len({connection.expires_at for connection in made}) == 4
        for connection in made:
            pool.give(connection)
        await pool.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "a..b", f"{'x' * 64}.example"])
async def test_a_connect_that_reaches_nobody_says_so_and_takes_no_place(host: str) -> None:
    pool = Pool(Address(host, free_port()))
    with pytest.raises(ConnectFailed, match="cannot be reached"):
        await pool.connect()
    assert pool.open == 0


async def test_a_connect_that_takes_too_long_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf:
        address = deaf.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        pool = Pool(Address(*address))
        with pytest.raises(ConnectFailed, match="did not accept") as failed:
            await pool.connect(connect_s=0.05)
        assert isinstance(failed.value.__cause__, TimeoutError) and pool.open == 0
        for filler in fillers:
            filler.close()


async def test_a_cancelled_connect_takes_no_place() -> None:
    async with Scripted(answers()) as peer:
        pool = pool_of(peer)
        for turns in range(6):
            task = asyncio.create_task(pool.connect())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            result = (await asyncio.gather(task, return_exceptions=True))[0]
            if isinstance(result, Connection):
                pool.give(result)
        await pool.close()
        await eventually(lambda: pool.open == 0)


async def test_at_the_limit_the_longest_waiting_gets_what_is_given_back() -> None:
    async with Scripted(answers()) as peer:
        pool = pool_of(peer, connections=1, wait_s=5)
        connection = await pool.connect()
        first = asyncio.create_task(pool.connect())
        await eventually(lambda: pool.waiting == 1)
        second = asyncio.create_task(pool.connect())
        await eventually(lambda: pool.waiting == 2)
        await ask(connection)
        pool.give(connection)
        assert await first is connection and not second.done()
        connection.abort()
        pool.give(connection)
        replacement = await second
        assert replacement is not connection and pool.open == 1
        pool.give(replacement)
        await pool.close()


async def test_at_the_limit_nobody_waits_for_ever() -> None:
    async with Scripted(answers()) as peer:
        pool = pool_of(peer, connections=1, wait_s=0.01)
        connection = await pool.connect()
        with pytest.raises(BulkheadFull):
            await pool.connect()
        assert pool.waiting == 0
        pool.give(connection)
        await pool.close()


async def test_the_queue_itself_has_a_limit() -> None:
    async with Scripted(answers()) as peer:
        pool = pool_of(peer, connections=1, waiters=1, wait_s=5)
        connection = await pool.connect()
        waiting = asyncio.create_task(pool.connect())
        await eventually(lambda: pool.waiting == 1)
        with pytest.raises(BulkheadFull):
            await pool.connect()
        pool.give(connection)
        assert await waiting is connection
        pool.give(connection)
        await pool.close()


async def test_a_waiter_that_leaves_with_a_connection_in_hand_passes_it_on() -> None:
    async with Scripted(answers()) as peer:
        pool = pool_of(peer, connections=1, wait_s=5)
        connection = await pool.connect()
        leaving = asyncio.create_task(pool.connect())
        await eventually(lambda: pool.waiting == 1)
        staying = asyncio.create_task(pool.connect())
        await eventually(lambda: pool.waiting == 2)
        pool.give(connection)
        leaving.cancel()
        assert await staying is connection
        assert leaving.cancelled() or leaving.cancelling()
        pool.give(connection)
        await pool.close()


async def test_a_waiter_whose_connection_ends_on_the_way_gets_another() -> None:
    async with Scripted(answers()) as peer:
        pool = pool_of(peer, connections=1, wait_s=5)
        connection = await pool.connect()
        waiting = asyncio.create_task(pool.connect())
        await eventually(lambda: pool.waiting == 1)
        pool.give(connection)
        connection.abort()
        given = await waiting
        assert given is not connection and given.reusable
        pool.give(given)
        await pool.close()


async def test_no_place_is_lost_however_callers_leave() -> None:
    choose = random.Random(7)
    async with Scripted(answers()) as peer:
        pool = pool_of(peer, connections=3, wait_s=5)

        async def work() -> None:
            connection = pool.take() or await pool.connect()
            try:
                await ask(connection)
            finally:
                pool.give(connection)

        for _ in range(30):
            tasks = [asyncio.create_task(work()) for _ in range(8)]
            for _ in range(choose.randrange(12)):
                await asyncio.sleep(0)
            for task in choose.sample(tasks, 4):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert pool.open <= 3 and pool.waiting == 0
        await eventually(lambda: pool.open == pool.idle)
        await pool.close()
        await eventually(lambda: pool.open == 0)


async def test_a_closed_pool_keeps_nothing_and_wakes_its_queue() -> None:
    async with Scripted(answers()) as peer:
        pool = pool_of(peer, connections=1, wait_s=5)
        connection = await pool.connect()
        waiting = asyncio.create_task(pool.connect())
        await eventually(lambda: pool.waiting == 1)
        await pool.close()
        with pytest.raises(ConnectFailed, match="closed"):
            await waiting
        pool.give(connection)
        await eventually(lambda: pool.open == 0)
        with pytest.raises(ConnectFailed, match="closed"):
            await pool.connect()
        assert repr(pool) == f"Pool({peer.host}:{peer.port}, 0 open, 0 idle, 0 waiting)"


async def test_a_detached_connection_is_no_longer_the_pools() -> None:
    switched = b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
    async with Scripted([Reads(), Sends(switched)]) as peer:
        pool = pool_of(peer)
        connection = await pool.connect()
        recorder = Recorder()
        connection.start(
            recorder, b"GET / HTTP/1.1\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", method=b"GET"
        )
        await eventually(lambda: recorder.status == 101)
        transport, _ = connection.detach()
        pool.give(connection)
        assert pool.open == 0 and not transport.is_closing()
        transport.abort()
