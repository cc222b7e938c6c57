"""What instances count of 10,000 POSTs when they reset after reading each, and what retries cost.

    python -m tests.bench.bench_retries [--requests 10000] [--clients 32]

Two instances in this process read each request whole and answer `POST`s with a reset; the gateway
runs beside them. `plain` sends POSTs without, `keyed` with an Idempotency-Key: only those may be
made again. `failing` sends GETs to instances that answer 503. `read` is how many requests the
instances counted, `most` how often the one that was read most; the bars are exactly one, and a
fifth more attempts than requests.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import re
import sys
import tempfile
import time
from pathlib import Path

from tests.support.gateways import Raw, one_rule, running
from tests.support.scripted import Reads, Repeats, Resets, Scripted, Sends, Step

MARK = b";"
REFUSED = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"
BAR = 1.2
KINDS: dict[str, tuple[str, list[Step]]] = {
    "plain": ("POST", [Reads(MARK), Resets()]),
    "keyed": ("POST", [Reads(MARK), Resets()]),
    "failing": ("GET", [Repeats([Reads(b"\r\n\r\n"), Sends(REFUSED)])]),
}


def written(kind: str, number: int) -> bytes:
    """One request; its number is in its body, or in its path where it has none."""
    method = KINDS[kind][0]
    if method == "GET":
        return b"GET /order-%06d; HTTP/1.1\r\nHost: a\r\n\r\n" % number
    body = b"order-%06d;" % number
    key = b"Idempotency-Key: k%d\r\n" % number if kind == "keyed" else b""
    head = b"POST /orders HTTP/1.1\r\nHost: a\r\n%bContent-Length: %d\r\n\r\n" % (key, len(body))
    return head + body


async def measure(kind: str, requests: int, clients: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="stagedoor-bench-") as folder:
        script = KINDS[kind][1]
        async with (
            Scripted(script) as one,
            Scripted(script) as two,
            running(Path(folder), one_rule(one.port, two.port)) as worker,
        ):

            async def some(first: int) -> None:
                async with Raw(worker.port) as client:
                    for number in range(first, requests, clients):
                        client.send(written(kind, number))
                        await client.answer()

            started = time.monotonic()
            await asyncio.gather(*(some(first) for first in range(clients)))
            spent = time.monotonic() - started
            read = collections.Counter(re.findall(rb"order-\d{6};", one.received + two.received))
    attempts = read.total() / requests
    most = max(read.values())
    kept = len(read) == requests and (most == 1 if kind == "plain" else attempts <= BAR)
    return {
        "kind": kind,
        "requests": requests,
        "read": len(read),
        "most": most,
        "attempts_a_request": attempts,
        "seconds": spent,
        "kept": kept,
    }


async def all_of(requests: int, clients: int) -> list[dict[str, object]]:
    return [await measure(kind, requests, clients) for kind in KINDS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=32)
    asked = parser.parse_args()
    rows = asyncio.run(all_of(asked.requests, asked.clients))
    for row in rows:
        print(
            f"{row['kind']:<8} {row['requests']:>6} requests, {row['read']:>6} read, "
            f"at most {row['most']} times, {row['attempts_a_request']:.3f} attempts each, "
            f"{row['seconds']:.1f} s",
            file=sys.stderr,
        )
    print(json.dumps({"bench": "retries", "rows": rows}))


if __name__ == "__main__":
    main()
