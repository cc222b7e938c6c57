"""As many connections as a listener takes by default, on two workers that share its port."""

import asyncio
import os
import resource
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from tests.support.gateway_process import GatewayProcess, gateway_workers
from tests.support.gateways import GET, Raw, status_of
from tests.support.holding import crowd
from tests.support.needs import missing
from tests.support.scripted import Scripted, answers

pytestmark = pytest.mark.slow
MANY = 20_000
ROOM = 400
"""A worker more than its half: which of them a connection falls to is chance, of which this is
more than five standard deviations."""
FILES = 12_000
"""A process must be able to have open: a tenth is not for connections."""
RULES = """\
clusters:
  up: {instances: ["127.0.0.1:%d"]}
rules:
  - {name: here, match: {path: /here}, reply: {status: 200, body: ok}}
  - {name: rest, match: {path_prefix: /}, forward: up}
"""


async def opened(workers: Sequence[GatewayProcess]) -> list[int]:
    return [await one.metric("gateway_connections", state="open") for one in workers]


async def refusals(workers: Sequence[GatewayProcess]) -> int:
    return sum([await one.metric("gateway_limits_total", limit="connections") for one in workers])


async def both(*told: Awaitable[int]) -> int:
    return sum(await asyncio.gather(*told))


async def serves(port: int, times: int) -> None:
    """New clients, one after the other, and all soon."""
    async with asyncio.timeout(5):
        for _ in range(times):
            async with Raw(port) as client:
                client.send(GET)
                assert status_of((await client.answer())[0]) == 200


async def refuses(port: int) -> None:
    async with Raw(port) as client:
        client.send(GET)
        with pytest.raises((ConnectionError, EOFError)):
            await client.head()


async def test_of_20_000_held_connections_all_are_served_and_one_over_the_limit_is_refused(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < FILES:
        missing(f"a process may not have {FILES:,} files open here: raise `ulimit -Hn`")
    began, spent = time.monotonic(), sum(os.times()[:4])
    half, limit = MANY // 2, MANY // 2 + ROOM
    async with (
        Scripted(answers()) as upstream,
        gateway_workers(
            tmp_path, RULES % upstream.port, 2, options=f"?connections={limit}"
        ) as workers,
        crowd(workers[0].port, "127.0.0.2", "127.0.0.3") as one,
        crowd(workers[0].port, "127.0.0.4", "127.0.0.5") as two,
        asyncio.timeout(60),
    ):
        port = workers[0].port
        before = [worker.resident() for worker in workers]
        assert await both(one.hold(half), two.hold(half)) == 0
        assert sum(await opened(workers)) == MANY
        grown = [worker.resident() - was for worker, was in zip(workers, before, strict=True)]
        await serves(port, 50)
        assert await both(one.ask(200), two.ask(200)) == 400

        refused = await both(one.hold(limit), two.hold(limit))
        assert await opened(workers) == [limit, limit]
        assert await refusals(workers) == refused
        await refuses(port)
        assert await refusals(workers) == refused + 1
        assert await both(one.ask(200), two.ask(200)) == 400
    took, spent = time.monotonic() - began, sum(os.times()[:4]) - spent
    each = sum(grown) / MANY / 1024
    told = f"{MANY} connections: {each:.1f} KiB each, {took:.1f} s, {spent:.1f} s of CPU"
    record_property("measured", told)
    assert each < 10
