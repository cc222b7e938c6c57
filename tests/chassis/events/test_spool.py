from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chassis.clock import SYSTEM, ManualClock
from chassis.deadline import Deadline
from chassis.errors import ConfigurationFault, Faulty, Shed, StoreUnavailable, Unprocessable
from chassis.events import Spool, Topic
from chassis.events.framing import frame
from tests.support.disks import file_size_limit, small_disk
from tests.support.events import ScriptedLog, envelope, seq_of
from tests.support.waiting import until

Make = Callable[..., Spool]


@asynccontextmanager
async def running(spool: Spool) -> AsyncIterator[None]:
    task = asyncio.create_task(spool.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def drained(spool: Spool) -> bool:
    return await spool.drain(Deadline.after(SYSTEM, 10))


async def fill(spool: Spool, count: int, *, first: int = 0, pad: int = 0) -> None:
    for seq in range(first, first + count):
        await spool.append("t", [envelope(seq, pad=pad)])


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.spool"))


@pytest.fixture
def log() -> ScriptedLog:
    return ScriptedLog()


async def test_what_is_appended_reaches_the_log_in_order_and_then_the_disk_is_free(
    tmp_path: Path, log: ScriptedLog
) -> None:
    spool = Spool(tmp_path, log)
    async with running(spool):
        await asyncio.gather(*[spool.append("t", [envelope(n), envelope(n + 1)]) for n in (0, 2)])
        await spool.append("t", [])
        assert spool.offer("t", envelope(4))
        assert await drained(spool)
    assert [seq_of(message) for message in log.messages] == [0, 1, 2, 3, 4]
    message = log.messages[0]
    assert (message.topic, message.key) == ("t", b"s")
    assert dict(message.headers)["content-type"] == b"application/cloudevents+json"
    assert (spool.offered, spool.acked, spool.spooled, spool.delivered) == (5, 4, 5, 5)
    assert (spool.dropped, spool.waiting, spool.fault) == (0, 0, None)
    await spool.close()
    assert segments(tmp_path) == []


async def test_what_is_offered_one_by_one_is_written_together_and_before_what_comes_later(
    tmp_path: Path, log: ScriptedLog
) -> None:
    clock = ManualClock()
    spool = Spool(tmp_path, log, clock)
    for seq in range(3):
        assert spool.offer("t", envelope(seq))
    assert spool.waiting == 0 and spool.used_bytes > 0
    await spool.append("t", [envelope(3)])
    assert spool.waiting == 4
    assert spool.offer("t", envelope(4))
    await clock.advance(0.05)
    await until(lambda: spool.waiting == 5)
    async with running(spool):
        await clock.advance(0.05)
        await until(lambda: not spool.waiting)
    assert [seq_of(message) for message in log.messages] == [0, 1, 2, 3, 4]
    assert (spool.offered, spool.spooled, spool.dropped) == (5, 5, 0)
    await spool.close()


async def test_closing_writes_what_was_offered(tmp_path: Path, log: ScriptedLog) -> None:
    first = Spool(tmp_path, log, ManualClock())
    assert first.offer("t", envelope(1))
    await first.close()
    second = Spool(tmp_path, log)
    assert second.waiting == 1
    await second.close()


async def test_what_was_not_delivered_is_delivered_by_the_next_process(
    tmp_path: Path, log: ScriptedLog
) -> None:
    first = Spool(tmp_path, log)
    await fill(first, 30)
    await first.close()
    second = Spool(tmp_path, log)
    assert second.waiting == 30
    await fill(second, 5, first=30)
    async with running(second):
        assert await drained(second)
    assert [seq_of(message) for message in log.messages] == list(range(35))
    await second.close()


async def test_what_was_delivered_is_not_repeated_after_a_restart(
    tmp_path: Path, log: ScriptedLog
) -> None:
    first = Spool(tmp_path, log)
    await fill(first, 10)
    async with running(first):
        assert await drained(first)
    log.down = True
    await fill(first, 5, first=10)
    await first.close()
    log.down = False
    second = Spool(tmp_path, log)
    assert second.waiting == 5
    async with running(second):
        assert await drained(second)
    assert [seq_of(message) for message in log.messages] == list(range(15))
    await second.close()


async def test_a_segment_after_everything_was_delivered_is_not_taken_for_delivered(
    tmp_path: Path, log: ScriptedLog
) -> None:
    first = Spool(tmp_path, log)
    await fill(first, 3)
    async with running(first):
        assert await drained(first)
    await first.close()
    second = Spool(tmp_path, log)
    await fill(second, 3, first=3)
    await second.close()
    third = Spool(tmp_path, log)
    async with running(third):
        assert await drained(third)
    assert [seq_of(message) for message in log.messages] == [0, 1, 2, 3, 4, 5]
    await third.close()


async def test_a_segment_that_a_crash_kept_from_being_removed_is_not_repeated(
    tmp_path: Path, log: ScriptedLog
) -> None:
    first = Spool(tmp_path, log, capacity_bytes=4000)
    await fill(first, 6, pad=200)
    kept = segments(tmp_path)[0]
    body = kept.read_bytes()
    async with running(first):
        assert await drained(first)
    await fill(first, 1, first=6)
    await first.close()
    kept.write_bytes(body)
    second = Spool(tmp_path, log)
    assert second.waiting == 1
    async with running(second):
        assert await drained(second)
    assert [seq_of(message) for message in log.messages] == list(range(7))
    await second.close()


@pytest.mark.parametrize("cursor", [b"", b"garbage", b"\x00" * 42, b"9" * 10])
async def test_a_lost_cursor_repeats_and_never_skips(
    tmp_path: Path, log: ScriptedLog, cursor: bytes
) -> None:
    first = Spool(tmp_path, log)
    await fill(first, 10)
    await first.close()
    (tmp_path / "delivered").write_bytes(cursor)
    second = Spool(tmp_path, log)
    async with running(second):
        assert await drained(second)
    assert [seq_of(message) for message in log.messages] == list(range(10))
    await second.close()


async def test_a_torn_tail_is_cut_off_and_the_rest_delivered(
    tmp_path: Path, log: ScriptedLog
) -> None:
    first = Spool(tmp_path, log)
    await fill(first, 4)
    await first.close()
    (segment,) = segments(tmp_path)
    whole = segment.stat().st_size
    with segment.open("ab") as file:
        file.write(frame(b"half")[:-1])
    second = Spool(tmp_path, log)
    assert segment.stat().st_size == whole
    assert (second.waiting, second.damaged_bytes) == (4, 0)
    await fill(second, 1, first=4)
    async with running(second):
        assert await drained(second)
    assert [seq_of(message) for message in log.messages] == [0, 1, 2, 3, 4]
    await second.close()


async def test_damage_before_the_last_segment_is_kept_aside_and_counted(
    tmp_path: Path, log: ScriptedLog
) -> None:
    first = Spool(tmp_path, log, capacity_bytes=4000)
    await fill(first, 6, pad=200)
    await first.close()
    damaged = segments(tmp_path)[1]
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    second = Spool(tmp_path, log)
    assert second.damaged_bytes > 0
    assert damaged.with_suffix(".damaged").stat().st_size == second.damaged_bytes
    async with running(second):
        assert await drained(second)
    assert [seq_of(message) for message in log.messages] == [0, 2, 3, 4, 5]
    await second.close()


async def test_at_the_disk_cap_events_are_shed_until_the_log_takes_some(
    tmp_path: Path, log: ScriptedLog
) -> None:
    log.down = True
    spool = Spool(tmp_path, log, capacity_bytes=8000)
    with pytest.raises(Shed, match=r"is full.*bring the log back") as shed:
        await fill(spool, 99, pad=200)
    assert (shed.value.code, shed.value.status) == ("spool_full", 503)
    assert shed.value.retry_after_s
    kept = spool.acked
    assert not spool.offer("t", envelope(99, pad=200))
    assert (spool.spooled, spool.dropped) == (kept, 2)
    assert sum(path.stat().st_size for path in segments(tmp_path)) <= 8000
    log.down = False
    async with running(spool):
        assert await drained(spool)
    assert len(log.messages) == kept
    await fill(spool, 1, first=100)
    await spool.close()


async def test_the_cap_counts_what_an_earlier_process_left(
    tmp_path: Path, log: ScriptedLog
) -> None:
    first = Spool(tmp_path, log)
    await fill(first, 10, pad=200)
    await first.close()
    second = Spool(tmp_path, log, capacity_bytes=3000)
    with pytest.raises(Shed):
        await fill(second, 1)
    await second.close()


async def test_while_the_log_is_down_events_wait_and_tries_grow_rarer(
    tmp_path: Path, log: ScriptedLog
) -> None:
    clock = ManualClock()
    log.down = True
    spool = Spool(tmp_path, log, clock)
    async with running(spool):
        await fill(spool, 3)
        await until(lambda: spool.waiting == 3)
        await clock.advance(0.05)
        await until(lambda: log.refused)
        assert str(spool.fault) == "the log is away"
        await clock.advance(60)
        assert 20 < log.refused < 80
        assert not await spool.drain(Deadline.after(clock, 0.0))
        log.down = False
        await clock.advance(5)
        await until(lambda: not spool.waiting)
    assert [seq_of(message) for message in log.messages] == [0, 1, 2]
    assert spool.fault is None
    await spool.close()


async def test_why_the_log_takes_nothing_is_said_when_it_is_another_reason_and_when_it_is_over(
    tmp_path: Path, log: ScriptedLog
) -> None:
    clock, said = ManualClock(), list[tuple[str, object]]()
    log.down, log.why = True, "no broker (after 3 ms in state CONNECT, 7 more)"
    spool = Spool(
        tmp_path, log, clock, say=lambda event, **told: said.append((event, told.get("why")))
    )
    async with running(spool):
        await fill(spool, 1)
        await until(lambda: spool.waiting)
        await clock.advance(0.05)
        await until(lambda: said)
        log.why = "no broker (after 9 ms in state CONNECT)"
        await clock.advance(30)
        log.why = "the disk is full"
        await clock.advance(30)
        log.down = False
        await clock.advance(30)
        await until(lambda: len(said) == 3)
        await fill(spool, 1, first=1)
        await clock.advance(30)
        await until(lambda: spool.delivered == 2)
    assert said == [
        ("log_refuses", "no broker (after 3 ms in state CONNECT, 7 more)"),
        ("log_refuses", "the disk is full"),
        ("log_takes_again", None),
    ]
    await spool.close()


async def test_a_topic_that_is_gone_is_told_of_and_made_again(
    tmp_path: Path, log: ScriptedLog
) -> None:
    said: list[str] = []
    log.gone = {"t"}
    spool = Spool(tmp_path, log, topics=[Topic("t")], say=lambda event, **told: said.append(event))
    async with running(spool):
        await fill(spool, 2)
        assert await drained(spool)
    assert [seq_of(message) for message in log.messages] == [0, 1]
    assert said == ["log_refuses", "log_takes_again"] and spool.fault is None
    await spool.close()


async def test_a_topic_that_is_not_ours_to_make_is_told_of(
    tmp_path: Path, log: ScriptedLog
) -> None:
    said: list[str] = []
    log.gone = {"t"}
    spool = Spool(tmp_path, log, say=lambda event, **told: said.append(f"{event}: {told['why']}"))
    async with running(spool):
        await fill(spool, 1)
        await until(lambda: said)
    assert said == ["log_refuses: there is no topic {'t'}"]
    await spool.close()


async def test_drain_ends_at_its_deadline(tmp_path: Path, log: ScriptedLog) -> None:
    clock = ManualClock()
    log.down = True
    spool = Spool(tmp_path, log, clock)
    await fill(spool, 1)
    draining = asyncio.create_task(spool.drain(Deadline.after(clock, 3.0)))
    await clock.advance(2.9)
    assert not draining.done()
    await clock.advance(0.2)
    assert await draining is False
    await spool.close()


async def test_two_processes_never_share_a_spool(tmp_path: Path, log: ScriptedLog) -> None:
    spool = Spool(tmp_path, log)
    with pytest.raises(ConfigurationFault, match=r"in use by process \d+.*a folder of its own"):
        Spool(tmp_path, log)
    other = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.disk_writers", "spool", str(tmp_path)),
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await other.communicate()
    assert b"in use by process" in said
    await spool.close()
    await Spool(tmp_path, log).close()


async def test_only_one_run_at_a_time(tmp_path: Path, log: ScriptedLog) -> None:
    spool = Spool(tmp_path, log)
    async with running(spool):
        await asyncio.sleep(0)
        with pytest.raises(Faulty, match="running already"):
            await spool.run()
    await spool.close()


async def test_an_event_that_no_log_would_take_is_refused_at_once(
    tmp_path: Path, log: ScriptedLog
) -> None:
    spool = Spool(tmp_path, log)
    with pytest.raises(Unprocessable, match="at most"):
        await fill(spool, 1, pad=1_000_000)
    await fill(spool, 1, pad=990_000)
    async with running(spool):
        assert await drained(spool)
    assert len(log.messages) == 1
    await spool.close()


async def test_a_cancelled_append_spoils_nothing(tmp_path: Path, log: ScriptedLog) -> None:
    spool = Spool(tmp_path, log)
    tasks = [asyncio.create_task(spool.append("t", [envelope(n)])) for n in range(20)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    async with running(spool):
        assert await drained(spool)
    assert {seq_of(message) for message in log.messages} >= set(range(1, 20, 2))
    assert spool.acked == 10
    assert spool.spooled == spool.delivered == len(log.messages)
    await spool.close()


async def test_a_disk_that_refuses_loses_only_what_was_not_acknowledged(
    tmp_path: Path, log: ScriptedLog
) -> None:
    spool = Spool(tmp_path, log)
    await fill(spool, 5, pad=500)
    with file_size_limit(4000):
        with pytest.raises(StoreUnavailable, match="ulimit"):
            await fill(spool, 1, first=50, pad=5000)
        with pytest.raises(StoreUnavailable):
            await fill(spool, 1, first=51, pad=5000)
        assert spool.offer("t", envelope(52, pad=5000))
        await until(lambda: spool.dropped == 3)
    await fill(spool, 5, first=5)
    assert len(segments(tmp_path)) == 2
    await spool.close()
    again = Spool(tmp_path, log)
    async with running(again):
        assert await drained(again)
    assert [seq_of(message) for message in log.messages] == list(range(10))
    await again.close()


async def test_a_full_disk_says_so_and_works_again_once_there_is_room(
    tmp_path: Path, log: ScriptedLog
) -> None:
    with small_disk(tmp_path / "small", 256 << 10) as disk:
        spool = Spool(disk / "spool", log)
        with pytest.raises(StoreUnavailable, match="the disk is full: free some space"):
            await fill(spool, 999, pad=4000)
        kept = spool.acked
        assert kept > 20
        async with running(spool):
            assert await drained(spool)
        await fill(spool, 20, first=kept, pad=4000)
        async with running(spool):
            assert await drained(spool)
        await spool.close()
    assert [seq_of(message) for message in log.messages] == list(range(kept + 20))


async def test_a_closed_spool_takes_nothing(tmp_path: Path, log: ScriptedLog) -> None:
    spool = Spool(tmp_path, log)
    await spool.close()
    await spool.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await fill(spool, 1)
    assert not spool.offer("t", envelope(1))


async def test_a_place_that_cannot_be_a_folder_is_named(tmp_path: Path, log: ScriptedLog) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreUnavailable, match=r"file/spool.*move it away"):
        Spool(tmp_path / "file" / "spool", log)
