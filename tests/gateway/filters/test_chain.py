import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from chassis.errors import Forbidden
from gateway.exchange import Exchange
from gateway.filters import Filter, Phase, run
from gateway.filters.chain import chain
from tests.support.gateways import GET, Raw, one_rule, running, status_of
from tests.support.scripted import Scripted, answers, eventually


def made(
    body: Callable[[Exchange], Awaitable[None] | None],
    *,
    phase_: Phase = Phase.INBOUND,
    order_: int = 0,
    on: bytes = b"/",
) -> Filter:
    class Made(Filter):
        phase = phase_
        order = order_

        def applies(self, exchange: Exchange) -> bool:
            return exchange.path.startswith(on)

        def apply(self, exchange: Exchange) -> Awaitable[None] | None:
            return body(exchange)

    return Made()


def adds(name: bytes) -> Callable[[Exchange], None]:
    return lambda exchange: exchange.headers.append((name, b"1"))


async def through(folder: Path, *filters: Filter, request: bytes = GET) -> tuple[int, bytes, bytes]:
    """The status, the whole answer, and what the instance heard."""
    async with (
        Scripted(answers()) as upstream,
        running(folder, one_rule(upstream.port), filters=filters) as worker,
        Raw(worker.port) as client,
    ):
        client.send(request)
        head, body = await client.answer()
        await eventually(lambda: worker.gateway.in_flight.now == 0)
    return status_of(head), head + body, upstream.received


def test_a_chain_is_one_phase_in_its_order() -> None:
    late, early = made(lambda e: None, order_=5), made(lambda e: None, order_=-5)
    outbound = made(lambda e: None, phase_=Phase.OUTBOUND)
    assert chain([late, outbound, early], Phase.INBOUND) == (early, late)
    assert run((), None) is None  # type: ignore[arg-type]


async def test_filters_that_wait_and_filters_that_do_not_run_in_order(tmp_path: Path) -> None:
    async def waits(exchange: Exchange) -> None:
        await asyncio.sleep(0)
        exchange.headers.append((b"x-2", b"1"))

    _, _, heard = await through(
        tmp_path,
        made(adds(b"x-3"), order_=3),
        made(waits, order_=2),
        made(adds(b"x-1"), order_=1),
        made(adds(b"x-no"), on=b"/elsewhere"),
    )
    assert b"x-1: 1\r\nx-2: 1\r\nx-3: 1\r\n" in heard
    assert b"x-no" not in heard


async def test_a_filter_may_answer_and_the_rest_is_skipped(tmp_path: Path) -> None:
    status, answer, heard = await through(
        tmp_path,
        made(lambda e: e.reply(203, [(b"x-by", b"filter")], b"here"), order_=1),
        made(adds(b"x-after"), order_=2),
    )
    assert (status, heard) == (203, b"")
    assert answer.endswith(b"here")
    assert b"x-by: filter" in answer


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_failure_of_the_tree_is_its_problem(is_async: bool, tmp_path: Path) -> None:
    def refuses(exchange: Exchange) -> Awaitable[None] | None:
        async def later() -> None:
            raise Forbidden("not you", code="not_you")

        if is_async:
            return later()
        raise Forbidden("not you", code="not_you")

    status, answer, heard = await through(tmp_path, made(refuses))
    assert (status, heard) == (403, b"")
    assert b'"code":"not_you"' in answer


@pytest.mark.parametrize("phase", [Phase.INBOUND, Phase.OUTBOUND])
@pytest.mark.parametrize("is_async", [False, True])
async def test_a_filter_that_breaks_is_a_500_and_lets_nothing_pass(
    is_async: bool, phase: Phase, tmp_path: Path
) -> None:
    def breaks(exchange: Exchange) -> Awaitable[None] | None:
        async def later() -> None:
            raise ZeroDivisionError("secret detail")

        if is_async:
            return later()
        raise ZeroDivisionError("secret detail")

    status, answer, heard = await through(tmp_path, made(breaks, phase_=phase))
    assert status == 500
    assert b"secret" not in answer
    assert b"ok" not in answer.partition(b"\r\n\r\n")[2].replace(b"token", b"")
    assert bool(heard) is (phase is Phase.OUTBOUND)


@pytest.mark.parametrize("is_async", [False, True])
async def test_outbound_filters_see_and_edit_the_answer(is_async: bool, tmp_path: Path) -> None:
    def edits(exchange: Exchange) -> Awaitable[None] | None:
        async def later() -> None:
            await asyncio.sleep(0.01)
            exchange.response_headers.append((b"x-out", b"%d" % exchange.status))
            exchange.response_headers.append((b"content-length", b"999"))

        if is_async:
            return later()
        exchange.response_headers.append((b"x-out", b"%d" % exchange.status))
        return None

    status, answer, _ = await through(tmp_path, made(edits, phase_=Phase.OUTBOUND))
    assert status == 200
    assert b"x-out: 200" in answer
    assert answer.endswith(b"Content-Length: 2\r\n\r\nok")


async def test_a_client_that_leaves_cancels_the_filter_that_waits(tmp_path: Path) -> None:
    cancelled = asyncio.Event()

    async def waits(exchange: Exchange) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with running(tmp_path, one_rule(1), filters=[made(waits)]) as worker:
        async with Raw(worker.port) as client:
            client.send(GET)
            await eventually(lambda: worker.gateway.in_flight.now == 1)
        async with asyncio.timeout(1):
            await cancelled.wait()
        await eventually(lambda: worker.gateway.in_flight.now == 0)


async def test_a_body_that_comes_while_a_filter_waits_is_sent_whole(tmp_path: Path) -> None:
    go = asyncio.Event()

    async def waits(exchange: Exchange) -> None:
        await go.wait()

    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port), filters=[made(waits)]) as worker,
        Raw(worker.port) as client,
    ):
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        await eventually(lambda: worker.gateway.in_flight.now == 1)
        client.send(b"2\r\nbc\r\n0\r\n\r\n")
        go.set()
        assert (await client.answer())[1] == b"ok"
        body = upstream.received.partition(b"\r\n\r\n")[2]
    assert body in (b"3\r\nabc\r\n0\r\n\r\n", b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n")
