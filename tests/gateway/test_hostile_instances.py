"""Instances that break every rule of an answer: nobody is hurt, nobody hears another's bytes."""

from __future__ import annotations

import asyncio
import gc
import random
import resource
import socket
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway.worker import Worker
from tests.gateway.test_attempting import answer, ask
from tests.support.gateways import GET, Raw, one_rule, running, status_of
from tests.support.scripted import (
    OK,
    Closes,
    Floods,
    Holds,
    Reads,
    Repeats,
    Resets,
    Scripted,
    Sends,
    Step,
    StopsReading,
    answers,
    eventually,
)

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
WHOLE = b"HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 6\r\n\r\nsecret"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nsec\r\n3\r\nret\r\n0\r\n\r\n"


async def is_well(worker: Worker) -> None:
    """Nothing of what happened is left: no request in flight, no connection that serves again."""
    await eventually(lambda: worker.gateway.in_flight.now == 0)
    (pool,) = worker.gateway.origins["up"].pools.values()
    assert pool.idle == 0
    await eventually(lambda: pool.open == 0)
    (standing,) = worker.gateway.origins["up"].balancer.standings().values()
    assert standing.in_flight == 0


@pytest.mark.parametrize("end", [Resets(), Closes()], ids=["reset", "close"])
@pytest.mark.parametrize("sent", [WHOLE, CHUNKED], ids=["length", "chunked"])
async def test_an_answer_that_breaks_off_at_any_point_never_looks_whole(
    end: Step, sent: bytes, tmp_path: Path
) -> None:
    """One connection an offset; the requests are POSTs, so that none is tried again."""
    scripts = [[Reads(b"hello"), Sends(sent[:at]), end] for at in range(len(sent))]
    head_ends = sent.index(b"\r\n\r\n") + 4
    async with (
        Scripted(*scripts) as instance,
        running(tmp_path, one_rule(instance.port)) as worker,
    ):
        for at in range(len(sent)):
            async with Raw(worker.port) as client:
                client.send(POST)
                try:
                    got = (
                        await client.rest() if at >= head_ends else b"".join(await client.answer())
                    )
                except (ConnectionError, asyncio.IncompleteReadError):
                    continue
            if at < head_ends:
                assert status_of(got) == 502
            assert not got.endswith((b"secret", b"0\r\n\r\n"))
        assert len(instance.connections) == len(sent)
        await is_well(worker)


@pytest.mark.parametrize(
    "script",
    [
        [],
        [Resets()],
        [Closes()],
        [Sends(OK), Resets()],
        [Sends(OK)],
        [Reads(b"P"), Resets()],
        [Reads(b"hel"), Resets()],
    ],
    ids=["silent", "reset", "close", "early-reset", "early", "head-reset", "body-reset"],
)
async def test_whatever_happens_around_the_request_somebody_is_answered(
    script: Sequence[Step], tmp_path: Path
) -> None:
    rules = {"timeout_s": "0.3"}
    async with (
        Scripted(script) as instance,
        running(tmp_path, one_rule(instance.port, **rules)) as worker,
    ):
        for _ in range(3):
            status, body = await ask(worker, POST)
            assert status in (502, 504) or (status, body) == (200, b"ok")
        await eventually(lambda: worker.gateway.in_flight.now == 0)
        (standing,) = worker.gateway.origins["up"].balancer.standings().values()
        assert standing.in_flight == 0


@pytest.mark.parametrize(
    "silence",
    [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 "],
)
async def test_half_a_head_and_then_silence_is_504_in_time(silence: bytes, tmp_path: Path) -> None:
    async with (
        Scripted([Reads(b"hello"), Sends(silence), Reads()]) as instance,
        running(tmp_path, one_rule(instance.port, timeout_s="0.3")) as worker,
        Raw(worker.port) as client,
    ):
        client.send(POST)
        head = await final_head(client)
        body = await client.body(head)
        assert (status_of(head), b"origin_timeout" in body) == (504, True)
        await is_well(worker)


async def final_head(client: Raw) -> bytes:
    """The head behind those of 1xx."""
    while status_of(head := await client.head()) < 200:
        pass
    return head


def peak_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 65_536),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 10_000),
        (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 1_000),
        (b"HTTP/1.1 ", b"2" * 65_536),
        (b"HTTP/1.1 200 ", b"O" * 65_536),
    ],
    ids=["one-field", "many-fields", "interim", "status", "reason"],
)
async def test_a_head_without_end_is_502_at_the_limit_and_costs_no_memory(
    start: bytes, piece: bytes, tmp_path: Path
) -> None:
    flood = Floods(100 << 20, piece)
    async with (
        Scripted([Reads(b"hello"), Sends(start), flood]) as instance,
        running(tmp_path, one_rule(instance.port)) as worker,
        Raw(worker.port) as client,
    ):
        gc.collect()
        before = peak_kb()
        client.send(POST)
        head = await final_head(client)
        body = await client.body(head)
        assert (status_of(head), b"origin_garbled" in body) == (502, True)
        async with asyncio.timeout(2):
            await instance.connections[0].lost.wait()
        assert peak_kb() - before < 20_000
        await is_well(worker)


@pytest.mark.parametrize(
    "garbage",
    [b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", b"\0" * 100],
)
@pytest.mark.parametrize("later", [False, True])
async def test_what_comes_behind_an_answer_reaches_nobody(
    garbage: bytes, later: bool, tmp_path: Path
) -> None:
    go = asyncio.Event()

    class Waits(Step):
        async def play(self, link: object) -> None:
            await go.wait()

    sends = [Sends(OK), Waits(), Sends(garbage)] if later else [Sends(OK + garbage)]
    async with (
        Scripted([Reads(b"hello"), *sends], [Repeats([Reads(b"hello"), Sends(OK)])]) as instance,
        running(tmp_path, one_rule(instance.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(POST)
        assert (await client.answer())[1] == b"ok"
        go.set()
        async with asyncio.timeout(2):
            await instance.connections[0].lost.wait()
        client.send(POST)
        assert (await client.answer())[1] == b"ok"
        assert len(instance.connections) == 2


@pytest.mark.parametrize(
    "poison",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nmore",
        b"HTTP/1.1 204 No\r\n\r\nbody",
        b"HTTP/1.1 304 No\r\nContent-Length: 4\r\n\r\nbody",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ],
)
async def test_a_poisoned_connection_is_never_used_again(poison: bytes, tmp_path: Path) -> None:
    async with (
        Scripted([Reads(), Sends(poison), Reads(), Sends(answer(299))], answers()) as instance,
        running(tmp_path, one_rule(instance.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(GET)
        head = await client.head()
        if status_of(head) == 200:
            await client.body(head)
        client.send(GET)
        assert (await client.answer())[1] == b"ok"
        assert len(instance.connections) == 2
        assert instance.connections[0].received.count(b"GET") == 1


class Echo(Step):
    """Answers each request with its own path, often badly: too early, cut, doubled, reset."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    async def play(self, link: object) -> None:
        while not link.ended:  # type: ignore[attr-defined]
            start = link.consumed  # type: ignore[attr-defined]
            await Reads().play(link)  # type: ignore[arg-type]
            path = bytes(link.received[start:]).split(b" ", 2)[1:2]  # type: ignore[attr-defined]
            if not path:
                return
            await self._answer(link, path[0])

    async def _answer(self, link: object, path: bytes) -> None:
        body = path * self.chance.choice([1, 50, 5_000])
        whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        kind = self.chance.randrange(12)
        if kind == 0:
            await Sends(whole[: self.chance.randrange(len(whole))]).play(link)  # type: ignore[arg-type]
            await Resets().play(link)  # type: ignore[arg-type]
        elif kind == 1:
            await Sends(whole + whole).play(link)  # type: ignore[arg-type]
        elif kind == 2:
            await Sends(whole + b"garbage").play(link)  # type: ignore[arg-type]
        elif kind == 3:
            await Sends(whole, by=7 if len(whole) < 1000 else 1000).play(link)  # type: ignore[arg-type]
        else:
            await Sends(whole).play(link)  # type: ignore[arg-type]


async def test_under_load_every_client_gets_its_own_bytes_or_none(tmp_path: Path) -> None:
    """Distinct bodies, many clients at once, instances of which every third answer is hostile."""
    good = 0
    scripts = [[Echo(seed)] for seed in range(400)]

    async def client(worker: Worker, name: int) -> int:
        whole = 0
        for number in range(25):
            path = b"/c%d-%d-" % (name, number)
            try:
                async with Raw(worker.port) as raw:
                    raw.send(GET.replace(b" / ", b" " + path + b" "))
                    head, body = await raw.answer()
            except (ConnectionError, asyncio.IncompleteReadError):
                continue
            if status_of(head) == 200:
                assert body in (path, path * 50, path * 5_000)
                whole += 1
            else:
                assert status_of(head) == 502
        return whole

    async with (
        Scripted(*scripts) as one,
        Scripted(*reversed(scripts)) as two,
        running(tmp_path, one_rule(one.port, two.port)) as worker,
    ):
        async with asyncio.timeout(20):
            good = sum(await asyncio.gather(*(client(worker, name) for name in range(24))))
        await eventually(lambda: worker.gateway.in_flight.now == 0)
        reused = sum(pool.reused for pool in worker.gateway.origins["up"].pools.values())
    assert good > 400
    assert reused > 100


async def test_a_client_that_leaves_is_felt_while_its_upload_is_held_back(tmp_path: Path) -> None:
    """By a reset: the end of a connection waits behind what was sent, like everything else."""
    upload = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 90000000\r\n\r\n" + bytes(8_000_000)
    async with (
        Scripted([Reads(), StopsReading(), Holds(asyncio.Event())]) as instance,
        running(tmp_path, one_rule(instance.port)) as worker,
    ):
        async with Raw(worker.port) as client:
            client.send(upload)
            await eventually(lambda: any(one.waits.unread for one in worker.listeners))
            await asyncio.sleep(0.2)  # looked at several times
            assert worker.gateway.in_flight.now == 1
            raw: socket.socket = client.writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await eventually(lambda: worker.gateway.in_flight.now == 0, within_s=1)


@pytest.mark.parametrize("at", ["waiting", "answering"])
async def test_a_client_that_leaves_is_felt_at_the_instance_within_a_tenth_of_a_second(
    at: str, tmp_path: Path
) -> None:
    begun: list[Step] = [
        Reads(),
        Sends(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nab"),
        Reads(),
    ]
    async with (
        Scripted([Reads(), Reads()] if at == "waiting" else begun) as instance,
        running(tmp_path, one_rule(instance.port)) as worker,
    ):
        async with Raw(worker.port) as client:
            client.send(GET)
            await eventually(lambda: bool(instance.received))
            if at == "answering":
                await client.head()
        async with asyncio.timeout(0.1):
            await instance.connections[0].lost.wait()
        await is_well(worker)
