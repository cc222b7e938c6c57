"""CONNECT: nowhere but where a rule lists it, and then a tunnel as soon as the instance agrees."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from chassis.clock import ManualClock
from gateway.exchange import Exchange
from gateway.filters import Filter
from gateway.filters.chain import Phase
from tests.support.certificates import contexts
from tests.support.gateways import GET, Raw, running, status_of
from tests.support.ports import free_port
from tests.support.scripted import OK, Closes, Reads, Repeats, Scripted, Sends, answers, eventually

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
CONNECT = b"CONNECT db.example:5432 HTTP/1.1\r\nHost: db.example:5432\r\n\r\n"
AGREED = b"HTTP/1.1 200 Connection established\r\nVia: p\r\n\r\n"


def rules(port: int, listed: str = "hosts: [db.example], methods: [CONNECT]") -> str:
    return (
        f'clusters: {{up: {{instances: ["127.0.0.1:{port}"]}}}}\nrules:\n'
        "  - {name: all, match: {path_prefix: /}, forward: up}\n"
        f"  - {{name: through, match: {{{listed}}}, forward: up}}\n"
    )


async def test_it_becomes_a_tunnel_and_bytes_behind_either_head_are_its_first(
    tmp_path: Path,
) -> None:
    script = [Reads(), Sends(AGREED + b"hello"), Reads(b"late")]
    async with (
        Scripted(script) as upstream,
        running(tmp_path, rules(upstream.port)) as worker,
    ):
        async with Raw(worker.port) as client:
            client.send(CONNECT + b"GET /early HTTP/1.1\r\n")
            head = await client.head()
            assert head.startswith(b"HTTP/1.1 200 ") and b"Via: p\r\n" in head
            assert b"length" not in head.lower() and b"coding" not in head.lower()
            assert await client.exactly(5) == b"hello"
            client.send(b"late")
            await eventually(lambda: upstream.received.endswith(b"GET /early HTTP/1.1\r\nlate"))
        assert upstream.received.startswith(CONNECT[:-2].replace(b"Host:", b"host:"))
        await eventually(lambda: worker.gateway.in_flight.now == 0)


@pytest.mark.parametrize(
    "fields",
    [b"Content-Length: 0\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"],
)
async def test_a_length_in_the_agreement_means_nothing_and_is_not_passed_on(
    fields: bytes, tmp_path: Path
) -> None:
    agreed = AGREED[:-2] + fields + b"\r\n"
    async with (
        Scripted([Reads(), Sends(agreed + b"five!", by=1), Reads(b"late")]) as upstream,
        running(tmp_path, rules(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(CONNECT)
        head = await client.head()
        assert b"length" not in head.lower() and b"coding" not in head.lower()
        assert await client.exactly(5) == b"five!"
        client.send(b"late")
        await eventually(lambda: upstream.received.endswith(b"late"))


@pytest.mark.parametrize("status", [200, 407, 502])
async def test_refused_by_the_instance_nothing_behind_it_is_taken_for_a_request(
    status: int, tmp_path: Path
) -> None:
    """The answers to CONNECT are the same as those to a GET, which are remembered."""
    answer = OK.replace(b"200 OK", b"%d So" % status)
    script = [Repeats([Reads(), Sends(answer)])]
    async with (
        Scripted(script) as upstream,
        running(tmp_path, rules(upstream.port)) as worker,
    ):
        for _ in range(2):
            async with Raw(worker.port) as client:
                client.send(GET)
                assert (await client.answer())[1] == b"ok"
        async with Raw(worker.port) as client:
            client.send(CONNECT + GET.replace(b"GET /", b"GET /smuggled"))
            if status == 200:
                assert (await client.head()).startswith(b"HTTP/1.1 200 ")
                assert await client.exactly(2) == b"ok"
                await eventually(lambda: b"/smuggled" in upstream.received)
            else:
                head, _, body = (await client.rest()).partition(b"\r\n\r\n")
                assert status_of(head) == status and body == b"ok"
                assert b"\r\nconnection: close" in head
                assert b"/smuggled" not in upstream.received
        await eventually(lambda: worker.gateway.in_flight.now == 0)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (CONNECT.replace(b"db.", b"other."), 405),
        (CONNECT.replace(b"CONNECT db.example:5432", b"CONNECT db.example"), 400),
        (CONNECT.replace(b"CONNECT db.example:5432", b"CONNECT db.example:"), 400),
        (CONNECT.replace(b"CONNECT db.example:5432", b"CONNECT db.example:5433"), 400),
        (CONNECT.replace(b"CONNECT db.example:5432", b"CONNECT me@db.example:5432"), 400),
        (CONNECT.replace(b"5432", b"0"), 400),
        (CONNECT.replace(b"5432", b"65536"), 400),
        (CONNECT.replace(b"5432", b"9" * 5_000), 400),
        (CONNECT.replace(b"CONNECT db.example:5432", b"CONNECT /"), 400),
        (CONNECT.replace(b"CONNECT db.example:5432", b"CONNECT http://db.example:5432"), 400),
        (CONNECT.replace(b"HTTP/1.1", b"HTTP/1.0"), 400),
        (CONNECT.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n"), 400),
        (CONNECT.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"), 400),
        (CONNECT.replace(b"\r\n\r\n", b"\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"), 400),
        (GET.replace(b"GET /", b"GET db.example:5432"), 400),
    ],
)
async def test_what_no_rule_lists_or_is_no_connect_is_refused(
    request_: bytes, status: int, tmp_path: Path
) -> None:
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, rules(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(request_ + GET)
        assert status_of(await client.rest()) == status
        assert not upstream.received


async def test_an_instance_that_says_nothing_is_timed_and_a_quiet_tunnel_is_not(
    tmp_path: Path,
) -> None:
    clock = ManualClock()
    async with (
        Scripted([Reads(), Sends(AGREED), Reads(b"never")], [Reads(), Reads(b"never")]) as upstream,
        running(tmp_path, rules(upstream.port), clock=clock) as worker,
        Raw(worker.port) as client,
    ):
        client.send(CONNECT)
        await client.head()
        async with Raw(worker.port) as other:
            other.send(CONNECT)
            await eventually(lambda: upstream.received.count(b"CONNECT") == 2)
            clock.tick(16)
            assert status_of(await other.rest()) == 504
        client.send(b"never")
        await eventually(lambda: upstream.connections[0].received.endswith(b"never"))


async def test_an_instance_that_ends_in_place_of_an_answer_is_502(tmp_path: Path) -> None:
    async with (
        Scripted([Reads(), Closes()]) as upstream,
        running(tmp_path, rules(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(CONNECT)
        answer = await client.rest()
        assert status_of(answer) == 502 and b"\r\nconnection: close\r\n" in answer
        assert len(upstream.connections) == 1
        await eventually(lambda: worker.gateway.in_flight.now == 0)


async def test_a_client_that_leaves_before_the_agreement_leaves_nothing_behind(
    tmp_path: Path,
) -> None:
    async with (
        Scripted([Reads(), Reads(b"never")]) as upstream,
        running(tmp_path, rules(upstream.port)) as worker,
    ):
        async with Raw(worker.port) as client:
            client.send(CONNECT)
            await eventually(lambda: bool(upstream.received))
        await eventually(lambda: upstream.connections[0].ended)
        await eventually(lambda: worker.gateway.in_flight.now == 0)


async def test_what_reached_nobody_is_tried_on_another_instance(tmp_path: Path) -> None:
    async with Scripted([Reads(), Sends(AGREED + b"hello")]) as upstream:
        document = rules(upstream.port).replace('["', f'["127.0.0.1:{free_port()}", "')
        async with running(tmp_path, document) as worker:
            for _ in range(4):
                async with Raw(worker.port) as client:
                    client.send(CONNECT)
                    assert status_of(await client.head()) == 200
                    assert await client.exactly(5) == b"hello"


class Agrees(Filter):
    """As a filter that answers what it should not."""

    name = "agrees"
    phase = Phase.INBOUND

    def apply(self, exchange: Exchange) -> None:
        exchange.reply(200, [], b"sure")


async def test_nobody_but_an_instance_can_agree(tmp_path: Path) -> None:
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, rules(upstream.port), filters=[Agrees()]) as worker,
        Raw(worker.port) as client,
    ):
        client.send(CONNECT)
        assert status_of(await client.rest()) == 500
        assert not upstream.received


async def test_the_log_tells_where_it_led(tmp_path: Path) -> None:
    async with (
        Scripted([Reads(), Sends(AGREED), Closes()]) as upstream,
        running(tmp_path, rules(upstream.port)) as worker,
    ):
        async with Raw(worker.port) as client:
            client.send(CONNECT)
            await client.rest()
        await eventually(lambda: worker.gateway.in_flight.now == 0)
        instance = worker.telemetry.instance
    text = (tmp_path / "home" / "log" / f"{instance}.jsonl").read_text()
    told = [one for one in map(json.loads, text.splitlines()) if "path" in one]
    assert [(one["path"], one["status"]) for one in told] == [("db.example:5432", 200)]


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Connects to whatever it is asked for."""
    asked = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
    far_reader, far_writer = await asyncio.open_connection(*asked.split(":"))
    writer.write(AGREED)
    await asyncio.gather(pipe(reader, far_writer), pipe(far_reader, writer))


async def ok(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    writer.close()


@contextlib.asynccontextmanager
async def listening(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_a_real_client_speaks_tls_through_it(tmp_path: Path) -> None:
    ours, theirs = contexts(tmp_path)
    async with (
        listening(ok, ours) as far,
        listening(proxy) as near,
        running(tmp_path, rules(near, "hosts: [localhost], methods: [CONNECT]")) as worker,
        httpx.AsyncClient(proxy=f"http://127.0.0.1:{worker.port}", verify=theirs) as client,
    ):
        answer = await client.get(f"https://localhost:{far}/")
        assert (answer.status_code, answer.text) == (200, "ok")
