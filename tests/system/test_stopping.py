"""Told to stop while it is still starting."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from chassis.contracts.events import PLAYBACK_BEACON
from chassis.events import Spool, Topic, open_log
from tests.support.events import envelope
from tests.support.system import ROOT

PATIENCE_S = 15.0
"""Less than the wait for one spool, more than a slow machine needs to end eighteen processes."""


async def accepted(home: Path, instance: str) -> None:
    """Events of an instance that does not run any more."""
    log = open_log(f"log://{home}/elsewhere")
    await log.ensure(Topic(PLAYBACK_BEACON))
    spool = Spool(home / "spool" / instance, log)
    await spool.append(PLAYBACK_BEACON, [envelope(1)])
    await spool.close()
    await log.close()


def test_it_ends_at_once_though_what_was_left_cannot_be_delivered_yet(tmp_path: Path) -> None:
    asyncio.run(accepted(tmp_path, "beacon-7"))
    command = [sys.executable, "-m", "deploy.cli", "up", "--log", "kafka://127.0.0.1:9"]
    command += ["--port", "0", "--registry-port", "0", "--admin-port", "0"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "STAGEDOOR_HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("catalogue: ")
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0 and "Traceback" not in said, said
    assert [*(tmp_path / "spool" / "beacon-7").glob("*.spool")], "the events are still there"
