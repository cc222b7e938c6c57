"""The scripted Play API as fixtures."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chassis.clock import ManualClock
from play_api.app import build
from tests.support.play import ListLog, Script
from tests.support.services import InProcess, in_process


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def script(clock: ManualClock) -> Script:
    return Script(clock)


@pytest.fixture
def log() -> ListLog:
    return ListLog()


@pytest.fixture
async def play_api(
    tmp_path: Path, clock: ManualClock, script: Script, log: ListLog
) -> AsyncIterator[InProcess]:
    async with in_process(
        "play_api", build, tmp_path, clock=clock, log=log, asks=script.asks()
    ) as running:
        script.seal = running.chassis.seal
        yield running
