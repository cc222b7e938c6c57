"""Every acknowledged event is in the views and the archive, once, whatever was killed."""

from __future__ import annotations

import asyncio
from typing import Any

from chassis.clock import SYSTEM
from deploy.load import Load, LoadSettings
from tests.support.ledger import assert_balanced
from tests.support.system import System

SETTINGS = LoadSettings(viewers=12, seconds=10, rate=25)
KILLS = (("stream_pipeline", 2.0), ("beacon", 1.5), ("stream_pipeline", 2.0), ("play_api", 1.0))


async def play_and_kill(system: System) -> list[dict[str, Any]]:
    """The answers of the Plays whose events were all acknowledged."""
    load = Load(system.gateway, SETTINGS, SYSTEM)
    playing = asyncio.Event()
    try:
        run = asyncio.ensure_future(load.run(lambda done: playing.set()))
        await playing.wait()
        for service, pause in KILLS:
            await asyncio.sleep(pause)
            await asyncio.to_thread(system.ask, "kill", service)
        await run
    finally:
        await load.close()
    return load.acknowledged


def test_no_acknowledged_event_is_lost_or_doubled_by_kills(system: System) -> None:
    answers = asyncio.run(play_and_kill(system))
    assert len(answers) > 50
    assert_balanced(system.home, answers)
