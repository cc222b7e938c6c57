"""Rolling restarts of gateways and of what they ask, under load: what clients notice.

    python -m tests.bench.bench_restart [--rounds 20]

The whole system with two gateways and two instances of the catalogue. Clients that keep their
connections and clients that take a new one for each request ask without a pause of more than 50 ms;
none asks twice. A round restarts both gateways, then both instances of the catalogue. Anything but
a whole answer of 200 is an error. Progress goes to standard error, JSON to standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.steady import Steady, steady
from tests.support.system import System, running

KEYS = b"GET /.well-known/jwks.json HTTP/1.1\r\nHost: a\r\n\r\n"


def search(system: System) -> bytes:
    token = system.ask("token")["access_token"]
    return (
        f"GET /v1/titles?q=inception HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n"
    ).encode()


async def rounds(system: System, count: int) -> list[dict[str, object]]:
    """One row for each service that is restarted."""
    rows = [await restarted(system, "gateway", KEYS, count)]
    request = await asyncio.to_thread(search, system)
    return [*rows, await restarted(system, "catalog", request, count)]


async def restarted(system: System, name: str, request: bytes, count: int) -> dict[str, object]:
    where = urlsplit(system.gateway)
    assert where.hostname is not None and where.port is not None
    slowest = 0.0
    async with steady(where.hostname, where.port, request) as clients:
        for number in range(count):
            began = time.monotonic()
            done = await asyncio.to_thread(system.stagedoor, "restart", name, timeout=180)
            if done.returncode != 0:
                raise SystemExit(done.stderr)
            slowest = max(slowest, time.monotonic() - began)
            print(f"{name} round {number + 1}: {clients}", file=sys.stderr, flush=True)
    return row(name, count, clients, slowest)


def row(name: str, count: int, clients: Steady, slowest_s: float) -> dict[str, object]:
    for error in clients.errors[:20]:
        print(error, file=sys.stderr)
    whole = clients.statuses.pop(200, 0)
    return {
        "restarted": name,
        "rounds": count,
        "processes": 2 * count,
        "answers": whole,
        "connections": clients.connections,
        "errors": len(clients.errors) + sum(clients.statuses.values()),
        "slowest_answer_ms": round(clients.slowest_s * 1000, 1),
        "slowest_round_s": round(slowest_s, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stagedoor-bench-") as folder:
        home = Path(folder) / "home"
        with running(home, "--instances", "catalog=2") as system:
            rows = asyncio.run(rounds(system, asked.rounds))
    print(json.dumps({"bench": "restart", "rows": rows}))


if __name__ == "__main__":
    main()
