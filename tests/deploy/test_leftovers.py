"""What an instance accepted is delivered, also when it never runs again."""

from __future__ import annotations

from pathlib import Path

from chassis.clock import SYSTEM
from chassis.contracts.events import PLAYBACK_BEACON
from chassis.events import Log, Spool, Topic, open_log
from deploy.leftovers import deliver_leftovers
from tests.support.events import envelope


async def accepted(root: Path, instance: str, log: Log, count: int) -> None:
    """Events that are acknowledged and not delivered: their process was killed."""
    spool = Spool(root / "spool" / instance, log)
    await spool.append(PLAYBACK_BEACON, [envelope(n) for n in range(count)])
    await spool.close()


def url(root: Path) -> str:
    return f"log://{root}/events"


async def stored(log: Log) -> int:
    return sum((await log.ends(PLAYBACK_BEACON)).values())


async def test_only_what_belongs_to_nobody_is_delivered_and_only_once(tmp_path: Path) -> None:
    said: list[str] = []
    log = open_log(url(tmp_path))
    await log.ensure(Topic(PLAYBACK_BEACON))
    await accepted(tmp_path, "beacon-1", log, 5)
    await accepted(tmp_path, "beacon-2", log, 3)
    for _ in range(2):
        await deliver_leftovers(tmp_path, url(tmp_path), {"beacon-1"}, SYSTEM, said.append)
    assert await stored(log) == 3
    assert said == ["events of beacon-2, which does not run now: 3 delivered"]
    await log.close()


async def test_a_spool_in_use_is_left_alone_and_said(tmp_path: Path) -> None:
    said: list[str] = []
    log = open_log(url(tmp_path))
    await log.ensure(Topic(PLAYBACK_BEACON))
    spool = Spool(tmp_path / "spool" / "beacon-2", log)
    await spool.append(PLAYBACK_BEACON, [envelope(1)])
    await deliver_leftovers(tmp_path, url(tmp_path), set(), SYSTEM, said.append)
    assert await stored(log) == 0 and "in use" in said[0]
    await spool.close()
    await log.close()
