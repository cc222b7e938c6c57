"""What one Play costs over all processes, and how many there are a second.

    python -m tests.bench.bench_play [--seconds 8] [--rate 100]

The whole system runs; viewers play films by their popularity, open loop, without player events.
CPU is user and system time of every process from /proc, the idle system's share subtracted, over
the Plays answered 200. JSON on standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chassis.clock import SYSTEM
from deploy.load import Load, LoadReport, LoadSettings
from tests.support.system import System, running

BAR_MS = 1.5
TICKS = os.sysconf("SC_CLK_TCK")


def cpu(system: System) -> dict[str, float]:
    """CPU seconds so far, by service."""
    used: dict[str, float] = defaultdict(float)
    for one in system.processes().values():
        fields = Path(f"/proc/{one['pid']}/stat").read_text().rpartition(")")[2].split()
        used[one["service"]] += (int(fields[11]) + int(fields[12])) / TICKS
    return used


def idle_share(system: System, seconds: float = 2.0) -> dict[str, float]:
    """CPU seconds a second that each service takes when nobody plays."""
    before, began = cpu(system), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    return {name: (now - before[name]) / took for name, now in cpu(system).items()}


async def play(url: str, settings: LoadSettings, started: Callable[[], None]) -> LoadReport:
    """Calls `started` once, when the viewers have signed up and the first Play is due."""
    load = Load(url, settings, SYSTEM)
    waiting = [started]
    try:
        return await load.run(lambda done: waiting.pop()() if waiting else None)
    finally:
        await load.close()


def measure(seconds: float, rate: float) -> dict[str, Any]:
    settings = LoadSettings(viewers=40, seconds=seconds, rate=rate, events=False)
    warm_up = LoadSettings(viewers=8, seconds=2, rate=50, events=False)
    with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "home") as system:
        asyncio.run(play(system.gateway, warm_up, lambda: None))
        idle = idle_share(system)
        before: dict[str, float] = {}
        began = 0.0

        def started() -> None:
            nonlocal began
            before.update(cpu(system))
            began = time.monotonic()

        report = asyncio.run(play(system.gateway, settings, started))
        spent, took = cpu(system), time.monotonic() - began
    answered = report.outcomes.get("200", 0)
    per_play = {
        name: round((spent[name] - before[name] - idle[name] * took) / answered * 1e6, 1)
        for name in spent
    }
    total_ms = round(sum(per_play.values()) / 1000, 3)
    return {
        "bench": "play",
        "cpu_ms_per_play": total_ms,
        "bar_ms": BAR_MS,
        "kept": total_ms <= BAR_MS,
        "cpu_us_by_service": dict(sorted(per_play.items(), key=lambda item: -item[1])),
        "idle_cpu_share": round(sum(idle.values()), 4),
        "plays_per_s": report.plays_per_s,
        "latency_ms": report.latency_ms,
        "outcomes": report.outcomes,
        "degraded": report.degraded,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rate", type=float, default=100.0)
    asked = parser.parse_args()
    print(json.dumps(measure(asked.seconds, asked.rate)))


if __name__ == "__main__":
    main()
