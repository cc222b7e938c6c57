"""Processes that write to a store and tell what was acknowledged, to be killed at any instant.

`python -m tests.support.disk_writers spool|log|tables|objects FOLDER [FIRST]` prints a line for
each acknowledged write, with its numbers; they begin at FIRST.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from chassis.events import Message, Spool, Topic, open_log
from chassis.storage import open_objects, open_tables
from tests.support.events import envelope
from tests.support.rows import Alone, Place

Write = Callable[[list[int]], Awaitable[object]]
BATCH = 5
TOPIC = Topic("t", partitions=4)


def acknowledge(numbers: list[int]) -> None:
    os.write(1, b" ".join(b"%d" % number for number in numbers) + b"\n")


async def write_for_ever(write: Write, first: int, writers: int = 4) -> None:
    counter = itertools.count(first)

    async def one() -> None:
        while True:
            numbers = [next(counter) for _ in range(BATCH)]
            await write(numbers)
            acknowledge(numbers)

    await asyncio.gather(*[one() for _ in range(writers)])


async def spool(folder: Path, first: int) -> None:
    """Appends and delivers at once; segments are small, so that many come and go."""
    log = open_log(f"log://{folder}/log")
    await log.ensure(TOPIC)
    spool = Spool(folder, log, capacity_bytes=1 << 20)
    running = asyncio.create_task(spool.run())

    async def write(numbers: list[int]) -> None:
        await spool.append("t", [envelope(number, pad=100) for number in numbers])

    await asyncio.gather(running, write_for_ever(write, first))


async def log(folder: Path, first: int) -> None:
    log = open_log(f"log://{folder}/log")
    await log.ensure(TOPIC)

    async def write(numbers: list[int]) -> None:
        await log.produce([Message("t", b"%d" % n, b"%d" % n) for n in numbers])

    await write_for_ever(write, first)


async def tables(folder: Path, first: int) -> None:
    tables = open_tables(f"sqlite://{folder}/rows.db")
    await tables.prepare(Place, Alone)

    async def write(numbers: list[int]) -> None:
        await tables.put_versioned([(Place(f"p{numbers[0]}", f"t{n}", n), n + 1) for n in numbers])
        await tables.put(Alone("last", numbers[-1]))

    await write_for_ever(write, first)


async def objects(folder: Path, first: int) -> None:
    objects = open_objects(f"file://{folder}/objects")

    async def write(numbers: list[int]) -> None:
        await asyncio.gather(*[objects.create(f"k/{n}", b"x" * 100_000) for n in numbers])

    await write_for_ever(write, first)


def main() -> None:
    kind, folder, *rest = sys.argv[1:]
    writer = {"spool": spool, "log": log, "tables": tables, "objects": objects}[kind]
    uvloop.run(writer(Path(folder), int(rest[0]) if rest else 0))


if __name__ == "__main__":
    main()
