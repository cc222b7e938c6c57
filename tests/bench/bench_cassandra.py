"""Rows on a real Cassandra of one node: a second, and in CPU time of the client.

    python -m tests.bench.bench_cassandra [--seconds 16]

The server comes from STAGEDOOR_TEST_CASSANDRA, or is started. It shares the machine's cores with
the client, so `rows_per_s` is what both can do together, and `rows_per_cpu_s` what one core of the
client could: process time of all its threads. Rows are those of a flush of the stream pipeline,
5,000 of continue_watching at a time under rising versions, on SQLite in the same run, and with the
driver used directly: `execute_concurrent_with_args`, a hundred at once. The server is warmed up
before. JSON on standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import cassandra
import msgspec
import uvloop
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.concurrent import execute_concurrent_with_args
from cassandra.policies import DCAwareRoundRobinPolicy, TokenAwarePolicy

from chassis.contracts.viewing import ContinueWatching
from chassis.storage import Tables, open_tables
from tests.support import real

BARS = {
    "end to end": "rows_per_s >= 50,000 on one node",
    "client": "rows_per_cpu_s >= 100,000",
}
FLUSH = 5_000
WARM_S = {"sqlite": 0.5, "cassandra": 25.0}
"""A server just started compiles what it runs for half a minute."""
Step = Callable[[int], Awaitable[int]]
Figures = dict[str, Any]


def rows(count: int, each: int = 5) -> list[ContinueWatching]:
    """`each` titles of every profile: what is in one partition is one write of the server."""
    return [
        ContinueWatching(
            profile_id=f"profile-{n // each * 7919 % 20_000:08d}",
            title_id=f"title-{n % each}",
            position_ms=n,
            duration_ms=5_400_000,
            last_watched_ms=1_700_000_000_000,
            session_id="s-1",
            session_started_ms=1_700_000_000_000,
            seq=n,
        )
        for n in range(count)
    ]


async def measured(seconds: float, step: Step) -> Figures:
    """Repeats `step(round)` for a while; what it did in wall-clock and in CPU time."""
    start, cpu, done, lap = time.perf_counter(), time.process_time(), 0, 0
    while time.perf_counter() - start < seconds:
        done += await step(lap)
        lap += 1
    wall, used = time.perf_counter() - start, time.process_time() - cpu
    return {
        "rows_per_s": round(done / wall),
        "rows_per_cpu_s": round(done / used),
        "cpu_us_a_row": round(used / done * 1e6, 2),
        "wall_us_a_row": round(wall / done * 1e6, 2),
    }


async def port(name: str, tables: Tables, seconds: float) -> list[Figures]:
    """What callers of the port get."""
    await tables.prepare(ContinueWatching)
    some, spread = rows(10 * FLUSH), rows(4 * FLUSH, each=1)
    keys = [(row.profile_id, row.title_id) for row in some]

    async def flush(lap: int) -> int:
        chunk = some[lap % 10 * FLUSH :][:FLUSH]
        base = time.time_ns() // 1000
        await tables.put_versioned([(row, base + row.seq) for row in chunk])
        return FLUSH

    async def flush_spread(lap: int) -> int:
        chunk = spread[lap % 4 * FLUSH :][:FLUSH]
        base = time.time_ns() // 1000
        await tables.put_versioned([(row, base + row.seq) for row in chunk])
        return FLUSH

    async def gather(lap: int) -> int:
        await tables.get_many(ContinueWatching, keys[lap % 10 * 1_000 :][:1_000])
        return 1_000

    async def get(lap: int) -> int:
        for key in keys[lap % 100 * 200 :][:200]:
            await tables.get(ContinueWatching, *key)
        return 200

    async def put(lap: int) -> int:
        for row in some[lap % 100 * 50 :][:50]:
            await tables.put(row)
        return 50

    async def swap(lap: int) -> int:
        mine = msgspec.structs.replace(some[0], profile_id=f"{name}-{lap}-{time.time_ns()}")
        assert await tables.insert(mine)
        assert await tables.replace(mine, msgspec.structs.replace(mine, seq=lap + 1))
        return 2

    await measured(WARM_S[name], flush)
    parts: Sequence[tuple[str, Step]] = (
        ("put_versioned, 5,000 rows of 1,000 profiles a call", flush),
        ("put_versioned, 5,000 rows of 5,000 profiles a call", flush_spread),
        ("get_many, 1,000 rows a call", gather),
        ("get, one after another", get),
        ("put, one after another", put),
        ("insert and replace, one after another", swap),
    )
    return [{"what": what, "on": name} | await measured(seconds, step) for what, step in parts]


def plain_driver(url: str, seconds: float) -> list[Figures]:
    """The driver's own way to write many rows: each by itself, many at once. And one by one."""
    parts = urlsplit(url)
    balancer = TokenAwarePolicy(DCAwareRoundRobinPolicy("datacenter1"))
    profile = ExecutionProfile(load_balancing_policy=balancer)
    cluster = Cluster(
        [parts.hostname], port=parts.port, execution_profiles={EXEC_PROFILE_DEFAULT: profile}
    )
    session = cluster.connect(parts.path.strip("/"))
    names = ", ".join(ContinueWatching.__struct_fields__)
    marks = ", ".join("?" * len(ContinueWatching.__struct_fields__))
    insert = session.prepare(
        f"INSERT INTO continue_watching ({names}) VALUES ({marks}) USING TIMESTAMP ?"
    )
    select = session.prepare(
        f"SELECT {names} FROM continue_watching WHERE profile_id = ? AND title_id = ?"
    )
    some = rows(FLUSH)

    async def get(lap: int) -> int:
        for row in some[lap % 25 * 200 :][:200]:
            session.execute(select, (row.profile_id, row.title_id)).one()
        return 200

    async def put(lap: int) -> int:
        for row in some[lap % 100 * 50 :][:50]:
            session.execute(insert, (*msgspec.structs.astuple(row), time.time_ns() // 1000))
        return 50

    async def flush(lap: int) -> int:
        base = 1_800_000_000_000_000 + lap * FLUSH
        values = [(*msgspec.structs.astuple(row), base + row.seq) for row in some]
        execute_concurrent_with_args(session, insert, values, concurrency=100)
        return FLUSH

    parts: Sequence[tuple[str, Step]] = (
        ("execute_concurrent_with_args, 5,000 rows a call", flush),
        ("execute a select, one after another", get),
        ("execute an insert, one after another", put),
    )
    on = {"on": "cassandra-driver alone"}
    try:
        return [{"what": w} | on | asyncio.run(measured(seconds, step)) for w, step in parts]
    finally:
        cluster.shutdown()


async def both(url: str, seconds: float) -> list[Figures]:
    with tempfile.TemporaryDirectory() as folder:
        embedded = open_tables(f"sqlite://{folder}/rows.db")
        figures = await port("sqlite", embedded, seconds)
        await embedded.close()
    tables = open_tables(url)
    figures += await port("cassandra", tables, seconds)
    await tables.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=16.0)
    options = parser.parse_args()
    url, share = real.fresh("cassandra"), options.seconds / 15
    figures = uvloop.run(both(url, share))
    figures += plain_driver(url, share)
    report = {
        "bench": "cassandra",
        "machine": {"python": platform.python_version(), "driver": cassandra.__version__},
        "figures": figures,
        "bars": BARS,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
