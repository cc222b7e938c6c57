"""How soon each real server answers, and what that costs it; on Java with its archive and without.

    python -m tests.bench.bench_servers [--rounds 3]

Each round starts a server of its own in an empty folder, kills it, and starts it again. Medians:
`ready_s` until it truly answers, `again_s` likewise after SIGKILL, `cpu_s` its processor time, all
threads, and `mb` its memory when it answered first. `without` takes the same jars by another path,
where Java finds no archive of their classes. Servers are those of `stagedoor servers install`; one
that is not there is left out. JSON on standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deploy.servers import NAMES, Servers, default_cache
from tests.support.real import ON_JAVA

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


async def life(name: str, cache: Path, home: Path) -> dict[str, float]:
    servers = Servers(home, cache)
    begun = time.monotonic()
    one = (await servers.up([name], ports={name: 0}))[name]
    try:
        ready, used = time.monotonic() - begun, cpu_s(one.pid)
        memory = one.processes[0].rss / 1e6
        await servers.kill(name)
        begun = time.monotonic()
        await servers.up([name])
        again = time.monotonic() - begun
    finally:
        await servers.down([name])
    return {"ready_s": ready, "again_s": again, "cpu_s": used, "mb": memory}


def caches(folder: Path) -> Iterator[tuple[str, str, Path]]:
    """Every server that is installed, as it starts; those on Java also without their archive."""
    cache = default_cache(os.environ)
    for name, found in Servers(folder, cache).installed(NAMES).items():
        if found is None:
            continue
        yield name, "with" if name in ON_JAVA else "", cache
        if name in ON_JAVA:
            (folder / found.path.name).symlink_to(found.path)
            yield name, "without", folder


async def measure(rounds: int) -> list[dict[str, Any]]:
    seen: dict[tuple[str, str], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as made:
        chosen = list(caches(Path(made)))
        for lap in range(rounds):
            for name, archive, cache in chosen:
                home = Path(made, f"{name}{archive}-{lap}")
                seen.setdefault((name, archive), []).append(await life(name, cache, home))
    return [
        {
            "server": name,
            "archive": archive,
            **{key: round(statistics.median(one[key] for one in told), 2) for key in told[0]},
        }
        for (name, archive), told in seen.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    print(json.dumps({"bench": "servers", "servers": asyncio.run(measure(rounds))}))


if __name__ == "__main__":
    main()
