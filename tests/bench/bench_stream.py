"""Events a second through the stream pipeline, stage by stage, on one core.

    python -m tests.bench.bench_stream [--seconds 12]

About 290 bytes an envelope, 10,000 profiles, one session each, in rounds of heartbeats.
`json_dict_fold` is the same resume position with the standard library's json and dicts, nothing
else folded and nothing kept: what the plainest consumer would do. `visible_p99_ms` is from
producing one event to reading it in the view, on an otherwise idle pipeline. JSON on standard
output.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import uvloop

from chassis.clock import SYSTEM
from chassis.contracts.viewing import ContinueWatching
from chassis.events import Record
from chassis.storage import open_objects, open_tables
from stream_pipeline.operators.decode import decode
from stream_pipeline.sinks.archive import ArchiveSink
from stream_pipeline.sinks.segment import Limits
from stream_pipeline.sinks.views import ViewSink
from tests.support.streams import Member, source
from tests.support.watching import BEGAN_MS, message, moment, record

PROFILES = 10_000
BATCH = 2_000
VISIBLE = 40
BARS = {"fold_parquet_put_per_s": 300_000, "end_to_end_per_s": 80_000, "visible_p99_ms": 1_500}


def told(rounds: int) -> list[Record]:
    """Every profile's heartbeats, round about."""
    return [
        record(
            moment(seq, profile=f"p{n:06}", session=f"s{n:06}", title=f"t{n % 300}"),
            (seq - 1) * PROFILES + n,
            timestamp_ms=BEGAN_MS + 100_000,
        )
        for seq in range(1, rounds + 1)
        for n in range(PROFILES)
    ]


def batches(records: list[Record]) -> Iterator[list[Record]]:
    for at in range(0, len(records), BATCH):
        yield records[at : at + BATCH]


def json_dict_fold(records: list[Record]) -> None:
    positions: dict[tuple[str, str], tuple[int, int, int]] = {}
    for one in records:
        event = json.loads(one.value)["data"]
        place = event["profile_id"], event["title_id"]
        order = event["at_ms"], event["seq"], event["position_ms"]
        if place not in positions or positions[place] < order:
            positions[place] = order


async def fold(sink: ViewSink, batch: list[Record]) -> None:
    at = source()
    told = [decode(one) for one in batch]
    await sink.read_ahead([(at, one) for one in told])
    for record_, one in zip(batch, told, strict=True):
        await sink.take(at, record_, one)


async def decode_fold(records: list[Record], folder: Path) -> None:
    """Steps 2 to 4: every fold, nothing written."""
    tables = open_tables(f"sqlite://{folder}/fold.db")
    sink = ViewSink(tables, cached_rows=1_000_000)
    await sink.prepare()
    for batch in batches(records):
        await fold(sink, batch)
    await tables.close()


async def fold_flush(records: list[Record], folder: Path) -> None:
    """Steps 2 to 5 with a durable flush every 20,000 records."""
    tables = open_tables(f"sqlite://{folder}/flush.db")
    sink = ViewSink(tables, cached_rows=1_000_000)
    await sink.prepare()
    for n, batch in enumerate(batches(records)):
        await fold(sink, batch)
        if n % 10 == 9:
            await sink.remember(await sink.flush(0.0))
    await tables.close()


async def archive(records: list[Record], folder: Path) -> None:
    """Steps 2 to 5 of the archive: decode, deduplicate, Parquet, durable create."""
    objects = open_objects(f"file://{folder}/archive")
    sink = ArchiveSink(objects, Limits(roll_records=100_000, roll_s=1e9))
    await sink.resume([source()])
    for batch in batches(records):
        for one in batch:
            await sink.take(source(), one, decode(one))
        await sink.flush(0.0)
    await sink.flush(0.0, everything=True)
    await objects.close()


async def rate(
    run: Callable[[list[Record], Path], Awaitable[None]], records: list[Record]
) -> float:
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        await run(records, Path(folder))
        return len(records) / (time.perf_counter() - began)


async def end_to_end(count: int, folder: Path) -> float:
    """Produced durably, consumed and in both sinks; both groups in this one process."""
    member = await Member(folder, SYSTEM, limits=Limits(), partitions=8).open()
    facts = [moment(1 + n // PROFILES, profile=f"p{n % PROFILES}") for n in range(count)]
    began = time.perf_counter()
    for at in range(0, count, BATCH):
        await member.tell(facts[at : at + BATCH])
    await member.drain(limit=10_000)
    seconds = time.perf_counter() - began
    await member.close()
    return count / seconds


async def visible_ms(folder: Path) -> list[float]:
    """Milliseconds until one event is seen in the view by another connection."""
    member = await Member(folder, SYSTEM, partitions=8).open()
    reader = open_tables(f"sqlite://{folder}/views.db")
    await reader.prepare(ContinueWatching)

    async def follow() -> None:
        while True:
            await member.state.take(BATCH, 1.0)
            if member.state.due():
                await member.state.finish()

    following = asyncio.ensure_future(follow())
    found = []
    for n in range(VISIBLE):
        began = time.perf_counter()
        await member.log.produce([message(moment(1, profile=f"seen{n}"))])
        while await reader.get(ContinueWatching, f"seen{n}", "t1") is None:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        found.append((time.perf_counter() - began) * 1000)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await reader.close()
    await member.close()
    return sorted(found)


async def measure(seconds: float) -> dict[str, Any]:
    records = told(rounds=max(2, int(seconds)))
    began = time.perf_counter()
    json_dict_fold(records)
    plain = len(records) / (time.perf_counter() - began)
    figures = {
        "json_dict_fold_per_s": plain,
        "decode_fold_per_s": await rate(decode_fold, records),
        "fold_flush_per_s": await rate(fold_flush, records),
        "fold_parquet_put_per_s": await rate(archive, records),
    }
    with tempfile.TemporaryDirectory() as folder:
        figures["end_to_end_per_s"] = await end_to_end(len(records) // 3, Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        delays = await visible_ms(Path(folder))
    figures["visible_p50_ms"] = delays[len(delays) // 2]
    figures["visible_p99_ms"] = delays[-1]
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=12.0)
    arguments = parser.parse_args()
    figures = uvloop.run(measure(arguments.seconds))
    shown = {name: round(value, 1) for name, value in figures.items()}
    print(
        json.dumps(
            {
                "bench": "stream",
                "python": platform.python_version(),
                "event_bytes": len(told(1)[0].value),
                "figures": shown,
                "bars": BARS,
            }
        )
    )


if __name__ == "__main__":
    main()
