"""The embedded log's own file: topics, heads, batches. Pure SQL steps."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from chassis.errors import OutOfRange, SchemaFault
from chassis.events.batches import Parcel, unpack
from chassis.events.log import Partition, Record, Topic

SCHEMA = """
CREATE TABLE IF NOT EXISTS topics (
  topic TEXT PRIMARY KEY, partitions INTEGER NOT NULL, retention_s REAL, epoch_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS heads (
  topic TEXT, partition INTEGER, start INTEGER NOT NULL, next INTEGER NOT NULL,
  PRIMARY KEY (topic, partition)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batches (
  topic TEXT NOT NULL, partition INTEGER NOT NULL, base INTEGER NOT NULL, last INTEGER NOT NULL,
  timestamp_ms INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS batches_by_offset ON batches (topic, partition, last);
"""

Heads = Mapping[int, tuple[int, int]]  # partition -> (oldest offset held, offset of the next)


@dataclass(frozen=True, slots=True)
class TopicInfo:
    partitions: int
    retention_s: float | None
    epoch: int


def topics(connection: sqlite3.Connection) -> dict[str, TopicInfo]:
    rows = connection.execute("SELECT topic, partitions, retention_s, epoch_us FROM topics")
    return {name: TopicInfo(*rest) for name, *rest in rows}


def ensure(connection: sqlite3.Connection, wanted: Iterable[Topic], now: float) -> None:
    """Creates topics; an existing one takes the new retention, never a new partition count."""
    known = topics(connection)
    for topic in wanted:
        there = known.get(topic.name)
        if there is None:
            _create(connection, topic, round(now * 1e6))
        elif there.partitions != topic.partitions:
            raise SchemaFault(
                f"topic {topic.name} has {there.partitions} partitions, not {topic.partitions}:"
                " keep the count, or start a new topic"
            )
        elif there.retention_s != topic.retention_s:
            connection.execute(
                "UPDATE topics SET retention_s = ? WHERE topic = ?",
                (topic.retention_s, topic.name),
            )


def append(
    connection: sqlite3.Connection, parcels: Sequence[Parcel], timestamp_ms: int
) -> list[dict[Partition, int]]:
    """Appends every parcel; the first offset of each part of each parcel."""
    joined: dict[Partition, list[tuple[int, int, bytes]]] = {}
    for index, parcel in enumerate(parcels):
        for partition, count, body in parcel.parts:
            joined.setdefault(partition, []).append((index, count, body))
    bases: list[dict[Partition, int]] = [{} for _ in parcels]
    for partition, parts in joined.items():
        total = sum(count for _, count, _ in parts)
        offset = _advance(connection, partition, total)
        body = b"".join(body for _, _, body in parts)
        connection.execute(
            "INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?)",
            (*partition, offset, offset + total - 1, timestamp_ms, body),
        )
        for index, count, _ in parts:
            bases[index][partition] = offset
            offset += count
    return bases


def heads(connection: sqlite3.Connection, topic: str) -> Heads:
    rows = connection.execute("SELECT partition, start, next FROM heads WHERE topic = ?", (topic,))
    return {partition: (start, end) for partition, start, end in rows}


def read(
    connection: sqlite3.Connection, positions: Sequence[tuple[Partition, int]], limit: int
) -> list[Record]:
    """Up to `limit` records from these positions on, in their order; `OutOfRange` beyond a head."""
    found: list[Record] = []
    known: dict[str, Heads] = {}
    for partition, position in positions:
        topic, number = partition
        if topic not in known:
            known[topic] = heads(connection, topic)
        start, end = known[topic][number]
        if not start <= position <= end:
            raise OutOfRange(
                f"{topic}/{number}: offset {position} is outside {start}..{end}; records were"
                " lost to retention, or the log was made anew"
            )
        if position < end and len(found) < limit:
            found += _read_one(connection, partition, position, limit - len(found))
    return found


def trim(connection: sqlite3.Connection, now: float) -> None:
    """Drops, from the oldest on, the batches that are older than their topic's retention."""
    for topic, info in topics(connection).items():
        if info.retention_s is None:
            continue
        cutoff_ms = round((now - info.retention_s) * 1000)
        for number, (start, end) in heads(connection, topic).items():
            _trim_one(connection, (topic, number), start, end, cutoff_ms)


def _create(connection: sqlite3.Connection, topic: Topic, epoch_us: int) -> None:
    connection.execute(
        "INSERT INTO topics VALUES (?, ?, ?, ?)",
        (topic.name, topic.partitions, topic.retention_s, epoch_us),
    )
    connection.executemany(
        "INSERT INTO heads VALUES (?, ?, 0, 0)",
        [(topic.name, number) for number in range(topic.partitions)],
    )


def _advance(connection: sqlite3.Connection, partition: Partition, count: int) -> int:
    row = connection.execute(
        "UPDATE heads SET next = next + ? WHERE topic = ? AND partition = ? RETURNING next",
        (count, *partition),
    ).fetchone()
    end: int = row[0]
    return end - count


def _read_one(
    connection: sqlite3.Connection, partition: Partition, position: int, limit: int
) -> list[Record]:
    found: list[Record] = []
    cursor = connection.execute(
        "SELECT base, last, timestamp_ms, body FROM batches"
        " WHERE topic = ? AND partition = ? AND last >= ? ORDER BY last",
        (*partition, position),
    )
    for base, last, timestamp_ms, body in cursor:
        records = unpack(partition, base, last - base + 1, timestamp_ms, body)
        found += records[max(0, position - base) :]
        if len(found) >= limit:
            break
    cursor.close()
    return found[:limit]


def _trim_one(
    connection: sqlite3.Connection, partition: Partition, start: int, end: int, cutoff_ms: int
) -> None:
    row = connection.execute(
        "SELECT base FROM batches WHERE topic = ? AND partition = ? AND timestamp_ms >= ?"
        " ORDER BY last LIMIT 1",
        (*partition, cutoff_ms),
    ).fetchone()
    oldest = row[0] if row else end
    if oldest <= start:
        return
    connection.execute(
        "DELETE FROM batches WHERE topic = ? AND partition = ? AND last < ?", (*partition, oldest)
    )
    connection.execute(
        "UPDATE heads SET start = ? WHERE topic = ? AND partition = ?", (oldest, *partition)
    )
