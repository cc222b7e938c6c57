"""What the zygote lives through before it forks leaves nothing behind that a fork would inherit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.rehearsal import LONGEST_S, within
from tests.support.zygotes import ROOT

_LOOK = """\
import json, os, signal
from deploy.rehearsal import rehearse

def look(one):
    link = f"/proc/self/fd/{one}"
    target = os.readlink(link) if os.path.islink(link) else "pipe"
    return target if target.startswith(os.environ["TMPDIR"]) else target.split(":")[0]

before = {look(one) for one in os.listdir("/proc/self/fd")} | {"pipe"}  # libuv keeps its pipe
done = rehearse()
print(json.dumps({
    "done": done,
    "threads": len(os.listdir("/proc/self/task")),
    "open": sorted({look(one) for one in os.listdir("/proc/self/fd")} - before),
    "default": signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
    "interrupt": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
}))
"""


@pytest.fixture(scope="module")
def after(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is there after a rehearsal in a process of its own; `left` is on disk."""
    folder = tmp_path_factory.mktemp("rehearsal")
    done = subprocess.run(
        [sys.executable, "-c", _LOOK],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return {**json.loads(done.stdout), "left": [*Path(folder).iterdir()], "said": done.stderr}


def test_it_goes_to_its_end_and_says_nothing(after: dict[str, Any]) -> None:
    assert (after["done"], after["said"]) == (True, "")


def test_no_thread_survives_it_that_a_fork_would_lose(after: dict[str, Any]) -> None:
    assert after["threads"] == 1


def test_nothing_stays_open_or_on_disk(after: dict[str, Any]) -> None:
    assert (after["open"], after["left"]) == ([], [])


def test_signals_are_as_they_were(after: dict[str, Any]) -> None:
    assert after["default"] and after["interrupt"]


async def test_one_that_cannot_go_on_is_given_up(tmp_path: Path) -> None:
    in_the_way = tmp_path / "log"
    in_the_way.write_text("no folder")
    assert await within(LONGEST_S, tmp_path) is False


async def test_one_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    assert await within(0.0, tmp_path) is False
