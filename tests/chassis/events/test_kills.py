"""kill -9 at any instant, with real processes: nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from chassis.clock import SYSTEM
from chassis.deadline import Deadline
from chassis.events import Log, Record, Spool, open_log
from tests.support.events import seq_of
from tests.support.kills import Writer

pytestmark = pytest.mark.slow

KILLS = 8


async def everything(log: Log) -> list[Record]:
    consumer = log.consumer("audit", ["t"])
    total = sum((await log.ends("t")).values())
    found: list[Record] = []
    while len(found) < total:
        found += await consumer.consume(10_000, 5.0)
    await consumer.close()
    return found


def killed(kind: str, folder: Path, seed: int) -> list[list[int]]:
    """What each of several writers in a row had acknowledged when it was killed."""
    chance = random.Random(seed)
    runs: list[list[int]] = []
    for run in range(KILLS):
        with Writer(kind, folder, first=run * 1_000_000) as writer:
            writer.wait_for(chance.randrange(1, 300))
            runs.append(writer.kill())
    return runs


async def test_the_spool_loses_nothing_acknowledged(tmp_path: Path) -> None:
    runs = await asyncio.to_thread(killed, "spool", tmp_path, 1)
    log = open_log(f"log://{tmp_path}/log")
    spool = Spool(tmp_path, log)
    running = asyncio.create_task(spool.run())
    assert await spool.drain(Deadline.after(SYSTEM, 20))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    delivered = [seq_of(record) for record in await everything(log)]
    acknowledged = {number for run in runs for number in run}
    assert len(acknowledged) > 5 * KILLS
    assert acknowledged <= set(delivered)
    assert len(delivered) - len(set(delivered)) <= KILLS * 1000  # at most one batch repeated a kill
    for run in range(KILLS):
        firsts = list(dict.fromkeys(n for n in delivered if n // 1_000_000 == run))
        assert firsts == sorted(firsts)
    await spool.close()
    await log.close()


async def test_the_log_loses_nothing_acknowledged_and_keeps_whole_batches(tmp_path: Path) -> None:
    runs = await asyncio.to_thread(killed, "log", tmp_path, 2)
    log = open_log(f"log://{tmp_path}/log")
    records = await everything(log)
    values = [int(record.value) for record in records]
    assert {number for run in runs for number in run} <= set(values)
    assert len(values) == len(set(values))
    assert all(sum(1 for v in values if v // 5 == n // 5) == 5 for n in values[:: len(values) // 9])
    await log.close()


async def test_writers_at_once_may_be_killed_while_others_go_on(tmp_path: Path) -> None:
    def run() -> list[int]:
        with Writer("log", tmp_path) as a, Writer("log", tmp_path, first=1_000_000) as b:
            a.wait_for(50)
            b.wait_for(50)
            gone = a.kill()
            b.wait_for(200)
            return gone + b.kill()

    acknowledged = await asyncio.to_thread(run)
    log = open_log(f"log://{tmp_path}/log")
    values = [int(record.value) for record in await everything(log)]
    assert set(acknowledged) <= set(values)
    assert len(values) == len(set(values))
    await log.close()
