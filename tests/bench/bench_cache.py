"""What a call of the cache costs its client, and what a shared rate limit costs a request.

    python -m tests.bench.bench_cache [--calls 2000]

`*_us`: processor time of the client a call, sockets included, one call at a time; `*_ms`: how long
a call lasts. `take_us` is a request's own limit decided in the worker, from a lease or from a
bucket of its own: no input or output is in it. Redis writes each lease to its disk, as the launcher
sets it up (`stagedoor servers install redis`, or STAGEDOOR_TEST_REDIS); without it its rows are
left out. JSON goes to standard output.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from chassis.cache import Quota, open_cache
from chassis.clock import SYSTEM
from chassis.telemetry.metrics import Counter
from gateway.admission import RateLimiter, Refills, SharedLimiter, Sharing
from gateway.rules.model import RateLimit
from tests.support import real

LIMIT = RateLimit(per_s=1e6, burst=1_000_000)
KEYS = 100
Row = dict[str, float | str]


async def measured(kind: str, url: str, calls: int) -> Row:
    cache = open_cache(url)
    quota, value = Quota(1e6, 1_000_000), b"x" * 200
    await cache.put("k", value, 600)
    methods: dict[str, Callable[[], Awaitable[object]]] = {
        "get_200_b": lambda: cache.get("k"),
        "put_200_b": lambda: cache.put("k", value, 600),
        "lease": lambda: cache.lease("q", quota, 10),
    }
    row: Row = {"cache": kind}
    for name, call in methods.items():
        cpu, wall = time.process_time(), time.monotonic()
        for _ in range(calls):
            await call()
        row[f"{name}_us"] = round((time.process_time() - cpu) / calls * 1e6, 2)
        row[f"{name}_ms"] = round((time.monotonic() - wall) / calls * 1e3, 3)
    sharing = Sharing(Refills(cache, SYSTEM, print), SYSTEM, lambda: 1, Counter())
    row["take_us"] = await taking(SharedLimiter(LIMIT, sharing), calls * 50)
    await sharing.refills.close()
    return row


async def taking(limiter: RateLimiter, times: int) -> float:
    """Microseconds a take, over some keys, the first of each left out; leases arrive meanwhile."""
    keys = [f"client-{n}" for n in range(KEYS)]
    for key in keys:
        limiter.take(key, SYSTEM.monotonic())
    await SYSTEM.sleep(0.2)
    began = time.process_time()
    for n in range(times):
        limiter.take(keys[n % KEYS], SYSTEM.monotonic())
    return round((time.process_time() - began) / times * 1e6, 3)


async def own(calls: int) -> Row:
    limiter = RateLimiter(LIMIT)
    return {"cache": "none: a bucket in the worker", "take_us": await taking(limiter, calls * 50)}


def run(calls: int) -> list[Row]:
    rows = [uvloop.run(own(calls)), uvloop.run(measured("memory", "memory://", calls))]
    try:
        url = f"{real.url('redis')}?timeout_s=5"
    except pytest.skip.Exception as missing:
        print(missing, file=sys.stderr)
        return rows
    return [*rows, uvloop.run(measured("Redis", url, calls))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--calls", type=int, default=2000)
    options = parser.parse_args()
    print(json.dumps({"bench": "cache", "caches": run(options.calls)}, indent=2))


if __name__ == "__main__":
    main()
