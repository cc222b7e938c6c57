"""The whole system on real servers: the same as on embedded ones, and each server killed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from chassis.clock import SYSTEM
from deploy.load import Load, LoadReport, LoadSettings
from tests.support import real
from tests.support.ledger import assert_balanced
from tests.support.system import System, eventually, running

NAMES = ("consul", "kafka", "cassandra", "s3", "redis")
DENIED = {"403 region", "403 not_entitled", "410 window_ended"}
"""What some films of the list answer in any case: their licence says so."""
SETTINGS = LoadSettings(viewers=12, seconds=12, rate=10)
KILL_AFTER_S, DOWN_S, RECOVERY_S = 3.0, 5.0, 30.0
STAND_INS = {
    "cassandra": {
        "membership", "profiles", "experiments", "bookmarks", "sessions", "steering",
        "recommendations", "rights", "licence", "manifest",
    },
}  # fmt: skip
"""The parts of a Play that may be stood in for while a server is down; none without an entry."""
STALLED = 0.1
"""Parts in a Play that may be late on a busy machine, where every commit waits for the disk."""


class RealSystem:
    """A system, and the servers that it stands on."""

    def __init__(self, system: System, servers: Mapping[str, real.RealServer]) -> None:
        self.system = system
        self.servers = servers


@pytest.fixture(scope="module")
def on_real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealSystem]:
    home = tmp_path_factory.mktemp("real") / "home"
    servers = real.own_all(NAMES, home)
    try:
        with running(home, "--profile", "real") as started:
            yield RealSystem(started, servers)
    finally:
        for server in reversed(servers.values()):
            server.stop()


def test_the_demo_shows_the_same_as_on_the_embedded_ones(on_real: RealSystem) -> None:
    report = on_real.system.ask("demo", "--country", "CA", timeout=120)
    assert report["play"]["degraded"] == []
    assert report["bookmark"]["position_ms"] == 180_000
    assert report["history"]["watched_ms"] == 180_000 and report["history"]["ended"]
    assert report["title"] in [one["title_id"] for one in report["trending"]["titles"]]
    assert report["archive"] and all(key.endswith(".parquet") for key in report["archive"])


def test_nothing_of_the_system_is_kept_in_files_beside_the_servers(on_real: RealSystem) -> None:
    for folder in ("data", "archive", "events"):
        assert [
            file.name for file in (on_real.system.home / folder).rglob("*") if file.is_file()
        ] == []


def test_one_backing_service_may_be_real_and_the_others_embedded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--objects", real.fresh("s3"), "--cache", real.fresh("redis")]
    for name, value in real.server("s3").environ.items():
        monkeypatch.setenv(name, value)
    with running(tmp_path / "home", *flags) as system:
        report = system.ask("demo", timeout=90)
        assert report["archive"] and report["history"]["watched_ms"] == 180_000
        assert [*(tmp_path / "home" / "archive").iterdir()] == []
        assert (tmp_path / "home" / "data" / "views.db").exists()


async def play_through(
    on_real: RealSystem, name: str
) -> tuple[LoadReport, list[dict[str, Any]], float]:
    """Kills a server under load and starts it again; the report, the acknowledged Plays, and when
    the server answered again: the load may go on after that."""
    load = Load(on_real.system.gateway, SETTINGS, SYSTEM)
    playing = asyncio.Event()
    try:
        run = asyncio.ensure_future(load.run(lambda done: playing.set()))
        await playing.wait()
        await asyncio.sleep(KILL_AFTER_S)
        await asyncio.to_thread(on_real.servers[name].kill)
        await asyncio.sleep(DOWN_S)
        await asyncio.to_thread(on_real.servers[name].start)
        back = time.monotonic()
        report = await run
    finally:
        await load.close()
    return report, load.acknowledged, back


def whole_again(system: System) -> bool:
    """A new member signs up and plays, and nothing is stood in for."""
    done = system.stagedoor("play", "inception")
    return done.returncode == 0 and json.loads(done.stdout)["degraded"] == []


def strays(report: LoadReport, name: str) -> int:
    """How many parts were only late while another server was away, as on any busy machine."""
    others = {
        part: n
        for part, n in report.degraded.items()
        if part.partition(" ")[0] not in STAND_INS.get(name, ())
    }
    late = ("origin_timeout", "breaker_open")
    assert all(any(reason in part for reason in late) for part in others), others
    return sum(others.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_server_killed_under_load_ends_no_play_and_loses_no_event(
    on_real: RealSystem, name: str, record_property: Callable[[str, object], None]
) -> None:
    report, acknowledged, back = asyncio.run(play_through(on_real, name))
    left_s = RECOVERY_S - (time.monotonic() - back)
    eventually(lambda: whole_again(on_real.system), within=left_s, what="whole Plays again")
    whole_s = time.monotonic() - back
    assert set(report.outcomes) - DENIED == {"200"}, report.outcomes
    assert strays(report, name) <= report.plays * STALLED, report.degraded
    assert len(acknowledged) > 50
    assert_balanced(on_real.system.home, acknowledged, within=RECOVERY_S)
    balanced_s = time.monotonic() - back
    measured = (
        f"{name} killed for {DOWN_S:.0f} s under {report.plays_per_s:.0f} Plays/s: no Play failed,"
        f" {sum(report.degraded.values())} parts stood in for; after its return, with what was left"
        f" of the load, whole Plays within {whole_s:.1f} s, all {report.events_accepted} events"
        f" in both sinks within {balanced_s:.1f} s"
    )
    record_property("measured", measured)
