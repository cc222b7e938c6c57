"""Events on a real Kafka of one broker: a second, and in CPU time of the client.

    python -m tests.bench.bench_kafka [--events 300000]

The broker comes from STAGEDOOR_TEST_KAFKA, or is started. It shares the machine's cores with the
client, so `per_s` is what both can do together, and `per_cpu_s` what one core of the client could:
process time of all its threads. Events are play events of about 210 bytes with a header, under
10,000 profiles, in batches of 1,000 of which eight are under way. `produce` ends when all are
acknowledged by all replicas and their offsets are known. `consume` makes records, with headers and
timestamps, 2,000 at a time; `consume, decode, fold` also decodes each value into its envelope and
keeps the last position of each profile; `decode, fold` is that part of it alone. Beside them the
embedded log, and the driver used directly: produce with a delivery report and poll, consume and
look at each value. JSON on standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import tempfile
import time
from collections.abc import Callable, Iterable
from itertools import cycle, islice
from typing import Any
from uuid import uuid4

import confluent_kafka
import msgspec
import uvloop

from chassis.contracts.events import Envelope
from chassis.events import Log, Message, Record, Topic, open_log
from chassis.events.kafka_url import Cluster, cluster_of
from tests.bench.bench_events import messages
from tests.support import real

BATCH = 1_000
FETCH = 2_000
UNDERWAY = 8
PLAYS = Topic("plays", partitions=8)
BARS = {
    "produce": "kafka per_cpu_s >= 100,000, acknowledged, with headers",
    "consume, decode, fold": "per_cpu_s >= 500,000",
}
Row = dict[str, Any]
_decode = msgspec.json.Decoder(Envelope).decode


class Fold:
    """The last position of each profile."""

    def __init__(self) -> None:
        self.positions: dict[str, int] = {}

    def take(self, values: Iterable[tuple[bytes | None, int]]) -> None:
        positions = self.positions
        for value, offset in values:
            positions[_decode(value or b"").partitionkey] = offset


def nothing(records: list[Record]) -> None:
    pass


def folding() -> Callable[[list[Record]], None]:
    fold = Fold()
    return lambda records: fold.take((record.value, record.offset) for record in records)


class Meter:
    """Wall clock and CPU time of this process from now on."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def row(self, path: str, on: str, events: int) -> Row:
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return {
            "path": path,
            "on": on,
            "per_s": round(events / wall),
            "per_cpu_s": round(events / cpu),
        }


async def produce(log: Log, on: str, events: list[Message]) -> Row:
    batches = [events[at : at + BATCH] for at in range(0, len(events), BATCH)]
    meter, underway = Meter(), set[asyncio.Future[Any]]()
    for batch in batches:
        underway.add(asyncio.ensure_future(log.produce(batch)))
        if len(underway) >= UNDERWAY:
            done, underway = await asyncio.wait(underway, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                await one
    await asyncio.gather(*underway)
    return meter.row("produce", on, len(events))


async def consume(
    log: Log, on: str, path: str, count: int, take: Callable[[list[Record]], None]
) -> Row:
    consumer = log.consumer(path, ["plays"])
    while not (first := await consumer.consume(1, 1.0)):
        pass  # joining the group is not reading
    done, meter = len(first), Meter()
    while done < count:
        records = await consumer.consume(FETCH, 1.0)
        take(records)
        done += len(records)
    row = meter.row(path, on, done)
    await consumer.close()
    return row


async def through_the_port(log: Log, on: str, events: list[Message]) -> list[Row]:
    await log.ensure(PLAYS)
    await log.produce(events[:BATCH])
    rows = [await produce(log, on, events)]
    count = len(events)
    rows.append(await consume(log, on, "consume", count, nothing))
    rows.append(await consume(log, on, "consume, decode, fold", count, folding()))
    await log.close()
    return rows


def plain_produce(cluster: Cluster, events: list[Message], topic: str) -> Row:
    """As its documentation does it, reports counted."""
    producer = confluent_kafka.Producer(cluster.producer())
    producer.list_topics(topic, timeout=10)
    places: list[tuple[int | None, int | None]] = []

    def report(error: object, message: confluent_kafka.Message) -> None:
        assert error is None, error
        places.append((message.partition(), message.offset()))

    meter = Meter()
    for event in events:
        producer.produce(
            topic, event.value, event.key, on_delivery=report, headers=list(event.headers)
        )
        producer.poll(0)
    producer.flush()
    assert len(places) == len(events)
    return meter.row("produce", "driver alone", len(events))


def plain_consume(cluster: Cluster, path: str, count: int, topic: str, fold: Fold | None) -> Row:
    consumer = confluent_kafka.Consumer(cluster.consumer("plain"))
    consumer.assign([confluent_kafka.TopicPartition(topic, n, 0) for n in range(PLAYS.partitions)])
    while not (first := consumer.consume(1, 1.0)):
        pass
    done, meter = len(first), Meter()
    while done < count:
        found = consumer.consume(FETCH, 0) or consumer.consume(1, 1.0)
        values = [(one.value(), one.offset() or 0) for one in found]
        if fold is not None:
            fold.take(values)
        done += len(found)
    row = meter.row(path, "driver alone", done)
    consumer.close()
    return row


def decode_fold(events: list[Message]) -> Row:
    values = [(event.value, n) for n, event in enumerate(events)]
    meter = Meter()
    Fold().take(values)
    return meter.row("decode, fold", "nothing", len(events))


async def measure(count: int) -> list[Row]:
    events = list(islice(cycle(messages(20_000)), count))
    url = f"{real.url('kafka')}?prefix={uuid4().hex}."
    cluster, topic = cluster_of(url), "plays"
    rows = await through_the_port(open_log(url), "kafka", events)
    topic = cluster.options.prefix + topic
    rows.append(await asyncio.to_thread(plain_produce, cluster, events, topic))
    for path, fold in (("consume", None), ("consume, decode, fold", Fold())):
        rows.append(await asyncio.to_thread(plain_consume, cluster, path, count, topic, fold))
    with tempfile.TemporaryDirectory() as folder:
        rows += await through_the_port(open_log(f"log://{folder}/log"), "embedded", events)
    return [*rows, decode_fold(events)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--events", type=int, default=300_000)
    options = parser.parse_args()
    rows = uvloop.run(measure(options.events))
    report = {
        "bench": "kafka",
        "machine": {"python": platform.python_version(), "driver": confluent_kafka.version()},
        "event_bytes": len(messages(1)[0].value),
        "rows": rows,
        "bars": BARS,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
