"""Retries: what proves that nothing was processed, what may be repeated, and what it may cost."""

from __future__ import annotations

import asyncio
import collections
import re
from pathlib import Path

import pytest

from chassis.clock import ManualClock
from gateway.worker import Worker
from tests.support.gateways import GET, Raw, fields_of, one_rule, running, status_of
from tests.support.ports import free_port
from tests.support.scripted import (
    OK,
    Closes,
    Reads,
    Repeats,
    Resets,
    Scripted,
    Sends,
    Step,
    answers,
    eventually,
)

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
KEYED = POST.replace(b"Host: a", b"Host: a\r\nIdempotency-Key: k")
RESETS: list[Step] = [Reads(), Resets()]


def answer(status: int, *headers: bytes) -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    return b"HTTP/1.1 %d Oh\r\nContent-Length: 2\r\n%b\r\nno" % (status, lines)


def counted(worker: Worker, series: str) -> float:
    """The sum of the series that begin so; each `label="value"` wanted follows the name."""
    name, *labels = series.split()
    lines = worker.telemetry.metrics.render().decode().splitlines()
    found = [
        line
        for line in lines
        if line.startswith(name + "{") and all(want in line for want in labels)
    ]
    return sum(float(line.rpartition(" ")[2]) for line in found)


async def ask(worker: Worker, request: bytes = GET) -> tuple[int, bytes]:
    async with Raw(worker.port) as client:
        client.send(request)
        head, body = await client.answer()
        return status_of(head), body


def first_then(worker: Worker, first: Scripted) -> None:
    """Lets the next request go to `first`: whoever else there is looks busy."""
    origin = worker.gateway.origins["up"]
    origin.choose(0.0)
    for standing in origin.balancer.standings().values():
        standing.in_flight = 0 if standing.instance.port == first.port else 100


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (RESETS, "reset"),
        ([Reads(), Closes()], "reset"),
        ([Reads(), Sends(b"SSH-2.0-x\r\n")], "garbled"),
        (answers(answer(502)), "status"),
        (answers(answer(503)), "status"),
        (answers(answer(504, b"Transfer-Encoding: x")[:-2]), "garbled"),
        ([Reads(), Sends(b"HTTP/1.1 503 No\r\nContent-Length: 9\r\n\r\nab"), Reads()], "status"),
        ([Reads(), Sends(b"HTTP/1.1 503 No\r\n\r\nab"), Closes()], "status"),
    ],
)
@pytest.mark.parametrize("request_", [GET, KEYED, POST.replace(b"POST", b"PUT")])
async def test_what_may_be_repeated_is_tried_on_another_instance(
    request_: bytes, script: list[Step], reason: str, tmp_path: Path
) -> None:
    body = b"hello" if request_ != GET else b""
    good: list[Step] = [Repeats([Reads(b"\r\n\r\n" + body), Sends(OK)])]
    async with (
        Scripted(script) as bad,
        Scripted(good) as other,
        running(tmp_path, one_rule(bad.port, other.port)) as worker,
    ):
        first_then(worker, bad)
        assert await ask(worker, request_) == (200, b"ok")
        assert bad.received.count(b"HTTP/1.1\r\n") == other.received.count(b"HTTP/1.1\r\n") == 1
        assert b"x-attempt" not in bad.received and b"\r\nx-attempt: 2\r\n" in other.received
        wanted = f'gateway_retry_total reason="{reason}" outcome="succeeded"'
        assert counted(worker, wanted) == 1
        assert counted(worker, 'gateway_origin_attempts_total attempt="retry" status="200"') == 1
        standings = worker.gateway.origins["up"].balancer.standings().values()
        assert {s.instance.port: s.failures for s in standings}[bad.port] == 1


@pytest.mark.parametrize(
    ("script", "status"), [(RESETS, 502), (answers(answer(502)), 502), (answers(answer(503)), 503)]
)
async def test_what_may_have_been_processed_and_must_not_be_repeated_is_not(
    script: list[Step], status: int, tmp_path: Path
) -> None:
    async with (
        Scripted(script) as one,
        Scripted(script) as two,
        running(tmp_path, one_rule(one.port, two.port)) as worker,
    ):
        assert (await ask(worker, POST))[0] == status
        assert (one.received + two.received).count(b"POST") == 1


async def test_a_rule_may_list_other_statuses(tmp_path: Path) -> None:
    for number, (extra, wanted) in enumerate([("{}", 500), ("{statuses: [500]}", 200)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        async with (
            Scripted(answers(answer(500))) as bad,
            Scripted(answers()) as good,
            running(folder, one_rule(bad.port, good.port, retry=extra)) as worker,
        ):
            first_then(worker, bad)
            assert (await ask(worker))[0] == wanted


@pytest.mark.parametrize("attempts", [1, 2, 3, 5])
async def test_a_rule_says_how_many_attempts_there_are_and_each_is_elsewhere(
    attempts: int, tmp_path: Path
) -> None:
    async with (
        Scripted(answers(answer(503))) as a,
        Scripted(answers(answer(503))) as b,
        Scripted(answers(answer(503))) as c,
        Scripted(answers(answer(503))) as d,
        running(
            tmp_path,
            one_rule(a.port, b.port, c.port, d.port, retry=f"{{attempts: {attempts}}}"),
        ) as worker,
        Raw(worker.port) as client,
    ):
        client.send(GET)
        head, _ = await client.answer()
        made = [peer.received.count(b"GET") for peer in (a, b, c, d)]
        assert sum(made) == min(attempts, 4, 1 + 3) and max(made) == 1
        spent = fields_of(head).get(b"x-attempt")
        assert spent == (b"%d" % min(attempts, 4) if attempts > 1 else None)


@pytest.mark.parametrize("told", [b"x-do-not-retry: 1", b"X-Do-Not-Retry: true", b"x-attempt: 2"])
async def test_an_answer_that_says_so_is_not_tried_again(told: bytes, tmp_path: Path) -> None:
    async with (
        Scripted(answers(answer(503, told))) as one,
        Scripted(answers(answer(503, told))) as two,
        running(tmp_path, one_rule(one.port, two.port)) as worker,
    ):
        assert (await ask(worker))[0] == 503
        assert (one.received + two.received).count(b"GET") == 1
        assert counted(worker, 'gateway_retry_total reason="status" outcome="forbidden"') == 1


async def test_a_single_instance_is_not_asked_again_but_for_a_connection_of_the_past(
    tmp_path: Path,
) -> None:
    once: list[Step] = [Reads(), Sends(OK), Reads(), Resets()]
    async with (
        Scripted(once, answers()) as only,
        running(tmp_path, one_rule(only.port)) as worker,
        Raw(worker.port) as client,
    ):
        for _ in range(2):
            client.send(GET)
            assert (await client.answer())[1] == b"ok"
        assert len(only.connections) == 2
    folder = tmp_path / "fresh"
    folder.mkdir()
    async with Scripted(RESETS) as only, running(folder, one_rule(only.port)) as worker:
        assert (await ask(worker))[0] == 502
        assert only.received.count(b"GET") == 1
        assert counted(worker, 'gateway_retry_total reason="reset" outcome="no_instance"') == 1


async def test_an_answer_that_has_begun_is_never_begun_again(tmp_path: Path) -> None:
    begun: list[Step] = [
        Reads(),
        Sends(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab"),
        Resets(),
    ]
    async with (
        Scripted(begun) as one,
        Scripted(begun) as two,
        running(tmp_path, one_rule(one.port, two.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(GET)
        assert (await client.rest()).endswith(b"ab")
        assert (one.received + two.received).count(b"GET") == 1


@pytest.mark.parametrize(("size", "status"), [(9_000, 200), (40_000, 502)])
async def test_a_body_that_comes_behind_its_head_is_repeated_only_when_it_is_little(
    size: int, status: int, tmp_path: Path
) -> None:
    body = b"x" * (size - 1) + b"y"
    good: list[Step] = [Repeats([Reads(b"y"), Sends(OK)])]
    async with (
        Scripted([Reads(b"y"), Resets()]) as bad,
        Scripted(good) as other,
        running(tmp_path, one_rule(bad.port, other.port)) as worker,
        Raw(worker.port) as client,
    ):
        first_then(worker, bad)
        client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
        await eventually(lambda: b"PUT" in bad.received)
        client.send(body[:100])
        await eventually(lambda: b"xx" in bad.received)
        client.send(body[100:])
        head, _ = await client.answer()
        assert status_of(head) == status
        assert other.received.count(body) == (1 if status == 200 else 0)


async def test_a_chunked_body_is_framed_whole_for_another_attempt(tmp_path: Path) -> None:
    async with (
        Scripted([Reads(b"0\r\n\r\n"), Resets()]) as bad,
        Scripted([Reads(b"0\r\n\r\n"), Sends(OK)]) as other,
        running(tmp_path, one_rule(bad.port, other.port)) as worker,
        Raw(worker.port) as client,
    ):
        first_then(worker, bad)
        client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await eventually(lambda: b"abc" in bad.received)
        client.send(b"2\r\nde\r\n0\r\n\r\n")
        assert (await client.answer())[1] == b"ok"
        assert other.received.endswith(b"\r\n\r\n5\r\nabcde\r\n0\r\n\r\n")


async def test_an_attempt_that_takes_longer_than_its_own_timeout_is_made_elsewhere(
    tmp_path: Path,
) -> None:
    clock = ManualClock()
    rules = "{attempt_timeout_s: 1}"
    async with (
        Scripted([Reads(), Reads()]) as silent,
        Scripted(answers()) as good,
        running(
            tmp_path, one_rule(silent.port, good.port, retry=rules, timeout_s="4"), clock=clock
        ) as worker,
        Raw(worker.port) as client,
    ):
        first_then(worker, silent)
        client.send(GET)
        await eventually(lambda: b"GET" in silent.received)
        clock.tick(1.01)
        assert (await client.answer())[1] == b"ok"
        assert b"\r\nx-request-timeout-ms: 3000\r\n" in good.received
        async with asyncio.timeout(2):
            await silent.connections[0].lost.wait()


async def test_a_post_that_takes_too_long_is_a_504_and_made_once(tmp_path: Path) -> None:
    clock = ManualClock()
    async with (
        Scripted([Reads(), Reads()]) as one,
        Scripted([Reads(), Reads()]) as two,
        running(
            tmp_path, one_rule(one.port, two.port, retry="{attempt_timeout_s: 1}"), clock=clock
        ) as worker,
        Raw(worker.port) as client,
    ):
        client.send(POST)
        await eventually(lambda: b"hello" in one.received + two.received)
        clock.tick(1.01)
        head, body = await client.answer()
        assert (status_of(head), b"origin_timeout" in body) == (504, True)
        assert (one.received + two.received).count(b"POST") == 1


async def test_no_other_attempt_is_made_when_less_is_left_than_an_answer_usually_takes(
    tmp_path: Path,
) -> None:
    async with (
        Scripted(RESETS) as one,
        Scripted(RESETS) as two,
        running(tmp_path, one_rule(one.port, two.port, timeout_s="5")) as worker,
    ):
        worker.gateway.origins["up"].learn(6.0)
        assert (await ask(worker))[0] == 502
        assert counted(worker, 'gateway_retry_total reason="reset" outcome="deadline"') == 1


async def test_retries_are_a_fifth_when_every_attempt_fails(tmp_path: Path) -> None:
    asked = 600
    async with (
        Scripted(answers(answer(503))) as one,
        Scripted(answers(answer(503))) as two,
        Scripted(answers(answer(503))) as three,
        running(tmp_path, one_rule(one.port, two.port, three.port)) as worker,
        Raw(worker.port) as client,
    ):
        for _ in range(asked):
            client.send(GET)
            assert status_of((await client.answer())[0]) == 503
        made = sum(peer.received.count(b"GET / ") for peer in (one, two, three))
        assert 1.1 * asked < made <= 1.2 * asked
        page = worker.telemetry.metrics.render().decode()
        (ratio,) = re.findall(r'gateway_retry_budget_ratio\{cluster="up"\} (.*)', page)
        assert float(ratio) > 0.9
        assert counted(worker, 'gateway_retry_total outcome="budget"') > 0


async def post_all(worker: Worker, asked: int, extra: str) -> collections.Counter[int]:
    """So many POSTs over eight connections, each with a body of its own; statuses counted."""
    statuses: collections.Counter[int] = collections.Counter()

    async def some(first: int) -> None:
        async with Raw(worker.port) as client:
            for number in range(first, asked, 8):
                body = b"order-%06d;" % number
                line = extra.format(number).encode()
                client.send(
                    b"POST /orders HTTP/1.1\r\nHost: a\r\n%bContent-Length: %d\r\n\r\n%b"
                    % (line, len(body), body)
                )
                statuses[status_of((await client.answer())[0])] += 1

    await asyncio.gather(*(some(first) for first in range(8)))
    return statuses


@pytest.mark.parametrize("keyed", [False, True])
async def test_each_post_is_read_exactly_once_by_instances_that_then_reset(
    keyed: bool, tmp_path: Path
) -> None:
    asked, script = 400, [Reads(b";"), Resets()]
    async with (
        Scripted(script) as one,
        Scripted(script) as two,
        running(tmp_path, one_rule(one.port, two.port)) as worker,
    ):
        key = "Idempotency-Key: k{}\r\n" if keyed else ""
        statuses = await post_all(worker, asked, key)
        read = collections.Counter(re.findall(rb"order-\d{6};", one.received + two.received))
    assert statuses == {502: asked}
    assert len(read) == asked
    if keyed:
        assert set(read.values()) == {1, 2} and read.total() <= 1.2 * asked + 3
    else:
        assert set(read.values()) == {1}


async def test_a_dead_instance_among_others_is_never_noticed(
    tmp_path: Path,
) -> None:
    async with (
        Scripted([Repeats([Reads(b"hello"), Sends(OK)])]) as one,
        Scripted([Repeats([Reads(b"hello"), Sends(OK)])]) as two,
        running(tmp_path, one_rule(one.port, free_port(), two.port)) as worker,
        Raw(worker.port) as client,
    ):
        for _ in range(60):
            client.send(POST)
            assert (await client.answer())[1] == b"ok"
        assert counted(worker, 'gateway_retry_total reason="connect" outcome="succeeded"') >= 1


async def test_what_reached_nobody_may_go_to_an_instance_that_is_ejected(tmp_path: Path) -> None:
    async with (
        Scripted([Repeats([Reads(b"hello"), Sends(OK)])]) as left_out,
        running(tmp_path, one_rule(left_out.port, free_port())) as worker,
    ):
        origin = worker.gateway.origins["up"]
        origin.choose(0.0)
        (standing,) = (
            s for s in origin.balancer.standings().values() if s.instance.port == left_out.port
        )
        now = worker.gateway.monotonic()
        for _ in range(5):
            origin.balancer.ended(standing, 0.01, False, now)
        assert standing.ejected
        assert await ask(worker, POST) == (200, b"ok")
