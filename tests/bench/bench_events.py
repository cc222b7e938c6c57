"""Events and rows a second on the embedded adapters, beside SQLite used directly.

    python -m tests.bench.bench_events [--seconds 12] [--folder DIR]

Everything is durable: each batch is fsynced before the next. Events are play events of about 210
bytes over 10,000 profiles. `sqlite_inserts_per_s` is what one process gets from plain inserts of
the same bytes in the same batches: what a log on one table would cost. Disks differ: compare the
rows of one run. JSON on standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import random
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import uvloop

from chassis.clock import SYSTEM
from chassis.contracts.events import Envelope
from chassis.contracts.viewing import ContinueWatching
from chassis.deadline import Deadline
from chassis.disk.sqlite import connect, transaction
from chassis.events import Message, Spool, Topic, open_log
from chassis.storage import open_objects, open_tables

BATCH = 1_000
FETCH = 10_000
BARS = {
    "end_to_end_per_s": 80_000,
    "spool_append_p99_ms": 5.0,
    "versioned_upserts_per_s": 150_000,
    "point_read_us": 10.0,
}
Figures = dict[str, float]


def envelopes(count: int) -> list[Envelope]:
    chance = random.Random(1)
    data = msgspec.Raw(b'{"session_id":"s-1","kind":"heartbeat","position_ms":120000}')
    return [
        Envelope(
            id=f"s:{n}",
            source="beacon",
            type="play.heartbeat.v1",
            time="2025-01-01T00:00:00Z",
            partitionkey=f"profile-{chance.randrange(10_000):08d}",
            data=data,
        )
        for n in range(count)
    ]


def messages(count: int) -> list[Message]:
    headers = (("content-type", b"application/cloudevents+json"),)
    return [
        Message("plays", e.partitionkey.encode(), msgspec.json.encode(e), headers)
        for e in envelopes(count)
    ]


async def for_seconds(seconds: float, step: Callable[[int], Awaitable[int]]) -> tuple[int, float]:
    """Repeats `step(round)` for a while; how much it did, and in what time."""
    start, done, lap = time.perf_counter(), 0, 0
    while time.perf_counter() - start < seconds:
        done += await step(lap)
        lap += 1
    return done, time.perf_counter() - start


def sqlite_alone(folder: Path, seconds: float) -> Figures:
    connection = connect(folder / "alone.db", writes=True)
    connection.execute("CREATE TABLE log (key BLOB, value BLOB)")
    rows = [(message.key, message.value) for message in messages(BATCH)]
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        with transaction(connection):
            connection.executemany("INSERT INTO log VALUES (?, ?)", rows)
        done += BATCH
    connection.close()
    return {"sqlite_inserts_per_s": done / (time.perf_counter() - start)}


async def log(folder: Path, seconds: float) -> Figures:
    log = open_log(f"log://{folder}/log")
    await log.ensure(Topic("plays"))
    batches = [messages(20 * BATCH)[n : n + BATCH] for n in range(0, 20 * BATCH, BATCH)]

    async def produce(lap: int) -> int:
        return len(await log.produce(batches[lap % 20]))

    produced, writing = await for_seconds(seconds / 2, produce)
    consumer = log.consumer("bench", ["plays"])
    start, consumed = time.perf_counter(), 0
    while consumed < produced:
        records = await consumer.consume(FETCH, 1.0)
        consumed += len(records)
        await consumer.commit({(r.topic, r.partition): r.offset + 1 for r in records})
    reading = time.perf_counter() - start
    await consumer.close()
    await log.close()
    return {
        "produce_per_s": produced / writing,
        "consume_per_s": consumed / reading,
        "end_to_end_per_s": produced / (writing + reading),
    }


async def spool(folder: Path, seconds: float) -> Figures:
    """Callers that each append one event and wait, while the spool drains into the log.

    First sixteen without a pause, for the rate; then at about 2,000 a second, for the latency.
    """
    log = open_log(f"log://{folder}/spooled")
    await log.ensure(Topic("plays"))
    spool = Spool(folder / "spool", log)
    running = asyncio.create_task(spool.run())
    events = envelopes(1000)

    async def caller(until: float, pause_s: float, waits: list[float]) -> None:
        while (start := time.perf_counter()) < until:
            await spool.append("plays", [events[len(waits) % 1000]])
            waits.append(time.perf_counter() - start)
            await SYSTEM.sleep(pause_s)

    async def callers(pause_s: float) -> list[float]:
        waits: list[float] = []
        until = time.perf_counter() + seconds / 2
        await asyncio.gather(*[caller(until, pause_s, waits) for _ in range(16)])
        return sorted(waits)

    rushed, waits = await callers(0.0), await callers(0.008)
    await spool.drain(Deadline.after(SYSTEM, 10))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await spool.close()
    await log.close()
    return {
        "spool_appends_per_s": len(rushed) / seconds * 2,
        "spool_append_p50_ms": waits[len(waits) // 2] * 1e3,
        "spool_append_p99_ms": waits[len(waits) * 99 // 100] * 1e3,
    }


def row(chance: random.Random, seq: int) -> ContinueWatching:
    return ContinueWatching(
        profile_id=f"profile-{chance.randrange(20_000):08d}",
        title_id=f"title-{chance.randrange(5)}",
        position_ms=seq,
        duration_ms=5_400_000,
        last_watched_ms=1_700_000_000_000,
        session_id="s-1",
        session_started_ms=1_700_000_000_000,
        seq=seq,
    )


async def tables(folder: Path, seconds: float) -> Figures:
    tables = open_tables(f"sqlite://{folder}/rows.db")
    await tables.prepare(ContinueWatching)
    chance = random.Random(2)
    rows = [row(chance, seq) for seq in range(50_000)]

    async def upsert(lap: int) -> int:
        chunk = rows[lap * 5000 % 50_000 :][:5000]
        await tables.put_versioned([(one, lap * 50_000 + one.seq) for one in chunk])
        return len(chunk)

    async def read(lap: int) -> int:
        for one in rows[:2000]:
            await tables.get(ContinueWatching, one.profile_id, one.title_id)
        return 2000

    upserts, writing = await for_seconds(seconds * 0.7, upsert)
    reads, reading = await for_seconds(seconds * 0.3, read)
    await tables.close()
    return {
        "versioned_upserts_per_s": upserts / writing,
        "point_read_us": reading / reads * 1e6,
    }


async def objects(folder: Path, seconds: float) -> Figures:
    objects = open_objects(f"file://{folder}/objects")
    body = b"x" * 1_000_000

    async def create(lap: int) -> int:
        await objects.create(f"raw/{lap % 10}/{lap:020d}.parquet", body)
        return 1

    done, took = await for_seconds(seconds, create)
    await objects.close()
    return {"object_creates_1mb_per_s": done / took}


async def run(folder: Path, seconds: float) -> Figures:
    share = seconds / 6
    figures = sqlite_alone(folder, share)
    figures |= await log(folder, 2 * share)
    for part in (spool, tables, objects):
        figures |= await part(folder, share)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--folder", type=Path, help="where the disk to measure is mounted")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        figures = uvloop.run(run(Path(folder), options.seconds))
    report = {
        "bench": "events",
        "machine": {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version},
        "figures": {name: round(value, 2) for name, value in figures.items()},
        "bars": BARS,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
