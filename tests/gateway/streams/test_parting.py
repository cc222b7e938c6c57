"""How streams end when the gateway wants them to: at a change of their own rule, and at a drain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from websockets.frames import Close, Frame, Opcode

from chassis.clock import ManualClock
from gateway.edge.frames import close_frame
from gateway.worker import Worker
from tests.gateway.streams.test_websocket import ASKS, SWITCHES, asked, metrics, served
from tests.support.gateways import GET, Raw, one_rule, running, status_of
from tests.support.scripted import (
    Holds,
    Reads,
    Repeats,
    Scripted,
    Sends,
    Step,
    eventually,
)

RULE = close_frame(1012, b"the rule changed")
TEXT = Frame(Opcode.TEXT, b"x" * 300).serialize(mask=False)
EVENTS = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


def two_rules(port: int, **fields: str) -> str:
    """Streams go by the first; `fields` are the second's."""
    other = "".join(f"    {name}: {value}\n" for name, value in fields.items())
    first = one_rule(port).replace("path_prefix: /", "path_prefix: /chat")
    return first + "  - name: other\n    match: {path_prefix: /other}\n    forward: up\n" + other


async def change(worker: Worker, text: str) -> None:
    """Puts `text` in the place of the rules, and waits until it serves."""
    version = worker.gateway.serving.version
    worker.live.file.write_text(text)
    await eventually(lambda: worker.gateway.serving.version > version)


@asynccontextmanager
async def joined(
    folder: Path, *steps: Step, asks: bytes = ASKS
) -> AsyncIterator[tuple[Worker, Raw, Scripted]]:
    """A tunnel through the gateway whose instance goes on with `steps`."""
    async with (
        Scripted([Reads(), Sends(SWITCHES), *steps]) as upstream,
        running(folder, two_rules(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(asks)
        assert status_of(await client.head()) == 101
        yield worker, client, upstream


async def end_rule(worker: Worker) -> None:
    await change(worker, worker.live.file.read_text().replace("/chat", "/talk"))


async def test_a_change_of_another_rule_leaves_it_open(tmp_path: Path) -> None:
    async with served(tmp_path, rules=two_rules) as worker, asked(worker) as client:
        text = worker.live.file.read_text()
        await change(worker, text + "    timeout_s: 3\n")
        await change(worker, text.replace("name: other", "name: another"))
        await change(
            worker, text + "  - {name: more, match: {path: /more}, reply: {status: 204}}\n"
        )
        await client.send("still here")
        assert await client.recv() == "still here"
        assert len(worker.gateway.streams) == 1
        assert worker.gateway.streams._open.popitem()[1].parting is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("path_prefix: /chat", "path_prefix: /talk"),
        ("forward: up\n  - name: other", "forward: up\n    timeout_s: 3\n  - name: other"),
        ("name: all", "name: everything"),
        ("up: {", "up: {idle_s: 3, "),
    ],
)
async def test_a_change_of_its_own_rule_ends_it_with_1012(
    old: str, new: str, tmp_path: Path
) -> None:
    """Both sides hear the same, each from its own library."""
    heard: list[int | None] = []

    async def handler(connection: object) -> None:
        await connection.wait_closed()  # type: ignore[attr-defined]
        heard.append(connection.close_code)  # type: ignore[attr-defined]

    async with served(tmp_path, handler, rules=two_rules) as worker, asked(worker) as client:
        await change(worker, worker.live.file.read_text().replace(old, new, 1))
        await client.wait_closed()
        assert (client.close_code, client.close_reason) == (1012, "the rule changed")
        await eventually(lambda: heard == [1012])
        await eventually(lambda: worker.gateway.in_flight.now == 0)
        assert metrics(worker)['gateway_streams_total{by="rule",kind="websocket"}'] == 1


async def test_the_close_frame_stands_where_the_frame_under_way_ends(tmp_path: Path) -> None:
    go = asyncio.Event()
    late = Sends(TEXT[100:] + TEXT + TEXT)
    async with joined(tmp_path, Sends(TEXT[:100]), Holds(go), late) as (worker, client, upstream):
        assert await client.exactly(100) == TEXT[:100]
        await end_rule(worker)
        (stream,) = worker.gateway.streams._open.values()
        await eventually(lambda: stream.stream.detail != "")
        go.set()
        assert await client.exactly(len(TEXT) - 100 + len(RULE)) == TEXT[100:] + RULE
        reply = Frame(Opcode.CLOSE, Close(1012, "").serialize()).serialize(mask=True)
        client.send(reply)
        await eventually(lambda: upstream.received.endswith(reply))
        assert await client.rest() == b""


async def test_a_frame_that_never_ends_is_cut_in_time(tmp_path: Path) -> None:
    async with joined(tmp_path, Sends(TEXT[:100])) as (worker, client, upstream):
        assert await client.exactly(100) == TEXT[:100]
        await end_rule(worker)
        assert await client.rest() == b""
        await eventually(lambda: upstream.connections[0].ended)


async def test_an_instance_that_has_said_its_own_close_is_not_spoken_over(tmp_path: Path) -> None:
    bye = close_frame(1000, b"done")
    async with joined(tmp_path, Sends(TEXT + bye)) as (worker, client, _):
        assert await client.exactly(len(TEXT + bye)) == TEXT + bye
        await end_rule(worker)
        assert await client.rest() == b""


async def test_a_tunnel_of_something_else_is_closed(tmp_path: Path) -> None:
    async with (
        Scripted([Reads(), Sends(SWITCHES.replace(b"websocket", b"echo") + b"hello")]) as upstream,
        running(tmp_path, two_rules(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(ASKS.replace(b"websocket", b"echo"))
        await client.head()
        await end_rule(worker)
        assert await client.rest() == b"hello"
        await eventually(lambda: len(worker.gateway.streams) == 0)
        assert metrics(worker)['gateway_streams_total{by="rule",kind="tunnel"}'] == 1


async def test_an_event_stream_is_cut_without_a_proper_end(tmp_path: Path) -> None:
    go = asyncio.Event()
    async with (
        Scripted([Reads(), Sends(EVENTS + b"9\r\ndata: 1\n\n\r\n"), Holds(go)]) as upstream,
        running(tmp_path, two_rules(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(GET.replace(b"/ ", b"/chat "))
        await client.head()
        await end_rule(worker)
        assert await client.rest() == b"9\r\ndata: 1\n\n\r\n"
        await eventually(lambda: upstream.connections[0].ended)
        go.set()
        assert metrics(worker)['gateway_streams_total{by="rule",kind="events"}'] == 1


async def test_an_answer_with_an_end_goes_on_to_it(tmp_path: Path) -> None:
    """What is no stream finishes on the snapshot it started with."""
    go = asyncio.Event()
    begun = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhe"
    async with (
        Scripted([Reads(), Sends(begun), Holds(go), Sends(b"re")]) as upstream,
        running(tmp_path, two_rules(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(GET.replace(b"/ ", b"/chat "))
        await client.head()
        await end_rule(worker)
        go.set()
        assert await client.exactly(4) == b"here"


async def test_many_do_not_end_in_one_moment(tmp_path: Path) -> None:
    clock = ManualClock()
    async with AsyncExitStack() as stack:
        script: list[Step] = [Reads(), Sends(SWITCHES), Repeats([Reads(b"never")])]
        upstream = await stack.enter_async_context(Scripted(script))
        rules = two_rules(upstream.port)
        worker = await stack.enter_async_context(
            running(tmp_path, rules, clock=clock, spread_s=10.0)
        )
        for _ in range(20):
            client = await stack.enter_async_context(Raw(worker.port))
            client.send(ASKS)
            await client.head()
        streams = worker.gateway.streams
        assert streams.drain() > 10
        told = []
        for _ in range(10):
            clock.tick(1.0)
            told.append(sum(bool(known.stream.detail) for known in streams._open.values()))
        assert told == sorted(told) and told[-1] == 20
        assert len(set(told)) > 5
