"""Two workers and one Redis: the limit is one, and its server's death does not stop requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from gateway.admission.shared import name_of
from gateway.admission.shares import batch_of
from gateway.rules.model import RateLimit
from gateway.worker import Worker
from tests.support import real
from tests.support.gateways import running
from tests.support.scripted import eventually

LIMIT = RateLimit(per_s=100, burst=20, key="header:who")
RULES = (
    "rules:\n  - name: all\n    match: {path_prefix: /}\n    reply: {status: 200}\n"
    "    rate_limit: l\n"
    "limits:\n  l: {per_s: 100, burst: 20, key: 'header:who'}\n"
)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[real.RealServer]:
    server = real.own("redis", tmp_path / "servers")
    yield server
    server.stop()


async def ask(worker: Worker, who: str, until: Callable[[], bool]) -> list[int]:
    """The statuses of requests, one after the other."""
    found = []
    headers = {"who": who}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{worker.port}") as client:
        while not until():
            found.append((await client.get("/", headers=headers)).status_code)
    return found


def for_s(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


def times(count: int) -> Callable[[], bool]:
    left = iter(range(count))
    return lambda: next(left, None) is None


async def both(one: Worker, other: Worker, who: str, seconds: float) -> tuple[int, int, float]:
    """How many were served and refused by two workers that are asked as fast as they answer."""
    began = time.monotonic()
    asked = [ask(worker, who, for_s(seconds)) for worker in (one, other, one, other)]
    answers = [status for statuses in await asyncio.gather(*asked) for status in statuses]
    return answers.count(200), answers.count(429), time.monotonic() - began


def fallbacks(worker: Worker) -> int:
    text = worker.telemetry.metrics.render().decode()
    lines = [line for line in text.splitlines() if line.startswith("gateway_quota_fallback_total ")]
    return int(float(lines[0].split()[1]))


@pytest.mark.slow
async def test_two_workers_share_one_limit_to_within_a_lease(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    cache = f"{real.fresh('redis')}?timeout_s=5"
    who = real.unique("who")
    async with (
        running(tmp_path / "a", RULES, cache=cache) as one,
        running(tmp_path / "b", RULES, cache=cache) as other,
    ):
        served, refused, passed = await both(one, other, who, 2.0)
        most = LIMIT.burst + LIMIT.per_s * passed + 2 * batch_of(LIMIT)
        assert fallbacks(one) == fallbacks(other) == 0
        assert LIMIT.per_s * passed / 2 <= served <= most, (served, refused, passed)
        assert refused > 0


@pytest.mark.slow
async def test_a_dead_redis_leaves_each_worker_its_own_limit_until_it_is_back(
    tmp_path: Path, own: real.RealServer
) -> None:
    async with running(tmp_path, RULES, cache=f"{own.url}?timeout_s=0.2") as worker:
        assert 200 in await ask(worker, "before", times(9))
        await asyncio.to_thread(own.kill)
        asked = asyncio.create_task(ask(worker, "while", for_s(1.5)))
        await eventually(lambda: fallbacks(worker) > 50)
        statuses = await asked
        assert 100 < statuses.count(200) <= LIMIT.burst * 2 + LIMIT.per_s * 1.6
        assert set(statuses) == {200, 429}
        await asyncio.to_thread(own.start)
        sharing = worker.gateway._sharing
        assert sharing is not None
        await eventually(lambda: not sharing.refills.away)
        counted = fallbacks(worker)
        assert 200 in await ask(worker, "after", times(9))
        assert fallbacks(worker) == counted


async def test_a_cache_that_was_never_there_is_no_reason_to_refuse(tmp_path: Path) -> None:
    async with running(tmp_path, RULES, cache="redis://127.0.0.1:1/0") as worker:
        statuses = await ask(worker, "who", lambda: fallbacks(worker) > 5)
        assert statuses[:5] == [200] * 5


def test_no_key_can_be_read_in_the_cache_and_equal_limits_are_one() -> None:
    assert "secret" not in name_of(LIMIT, "secret-api-key")
    assert name_of(LIMIT, "a") == name_of(RateLimit(per_s=100, burst=20, key="header:who"), "a")
    assert name_of(LIMIT, "a") != name_of(LIMIT, "b")
