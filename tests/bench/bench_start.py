"""From nothing to the first Play, and what the whole system weighs.

    python -m tests.bench.bench_start [--rounds 3]

Seconds from starting the command to the first `POST /v1/play` answered 200, by a client that
waited for it: once with an empty state directory (keys and catalogue are made), then with what
that left behind. Memory is PSS, summed over all processes, after that Play. JSON on stdout.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from chassis.clock import SYSTEM
from deploy.member import Member
from tests.support.system import children, memory_pss, running

BARS = {"first_play_s": 10, "memory_mb": 400}


async def first_play(url: str) -> None:
    member = Member(url, SYSTEM)
    try:
        await member.sign_up()
        title = await member.find("inception")
        response = await member.play(title["title_id"], "bench")
        if response.status_code != 200:
            raise SystemExit(f"the first play answered {response.status_code}: {response.text}")
    finally:
        await member.close()


def once(home: Path) -> dict[str, Any]:
    began = time.monotonic()
    with running(home) as system:
        ready = time.monotonic() - began
        asyncio.run(first_play(system.gateway))
        answered = time.monotonic() - began
        pids = [system.process.pid, *children(system.process.pid)]
        memory = memory_pss(pids)
        began = time.monotonic()
    return {
        "ready_s": round(ready, 2),
        "first_play_s": round(answered, 2),
        "memory_mb": round(memory / (1 << 20), 1),
        "processes": len(pids),
        "drain_s": round(time.monotonic() - began, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            state = "kept" if number else "empty"
            rows.append({"state": state, **once(Path(folder) / "home")})
    worst = {name: max(row[name] for row in rows) for name in BARS}
    kept = all(worst[name] <= bar for name, bar in BARS.items())
    print(json.dumps({"bench": "start", "rows": rows, "bars": BARS, "kept": kept}))


if __name__ == "__main__":
    main()
