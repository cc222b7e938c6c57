"""What a call of the objects port costs its client: a local folder beside a real S3 server.

    python -m tests.bench.bench_objects [--calls 200]

`*_us`: processor time of the client a call, all its threads and sockets included, one call at a
time; `*_ms`: how long a call lasts. The folder is on the disk of the temporary directory and
fsynced; the S3 server is the launcher's (`stagedoor servers install s3`) or the one of
STAGEDOOR_TEST_S3, and left out where there is none. JSON goes to standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from chassis.storage import Objects, open_objects
from tests.support import buckets

SMALL, LARGE = b"x" * 1000, b"x" * 1_000_000
Row = dict[str, float | str]


async def measured(kind: str, url: str, calls: int) -> Row:
    objects = open_objects(url)
    await objects.create("small", SMALL)
    await objects.create("large", LARGE)
    await objects.create("replaced", SMALL)
    row: Row = {"objects": kind}
    methods: dict[str, Callable[[int], Awaitable[object]]] = {
        "create_1_kb": lambda n: objects.create(f"s/{n}", SMALL),
        "create_1_mb": lambda n: objects.create(f"l/{n}", LARGE),
        "get_1_kb": lambda n: objects.get("small"),
        "get_1_mb": lambda n: objects.get("large"),
        "range_64_kb_of_1_mb": lambda n: objects.get_range("large", -65536, 65536),
        "head": lambda n: objects.head("small"),
        "replace_1_kb": lambda n: replace(objects, n),
        "delete": lambda n: objects.delete(f"s/{n}"),
    }
    for name, call in methods.items():
        times = calls // 4 if "mb" in name else calls
        cpu, wall = time.process_time(), time.monotonic()
        for n in range(times):
            await call(n)
        row[f"{name}_us"] = round((time.process_time() - cpu) / times * 1e6, 1)
        row[f"{name}_ms"] = round((time.monotonic() - wall) / times * 1e3, 3)
    row["creates_of_1_kb_a_s_32_at_once"] = round(await rate(objects, calls * 4))
    await objects.close()
    return row


async def replace(objects: Objects, n: int) -> None:
    """A whole compare-and-set: look, then write."""
    await objects.replace("replaced", b"%d" % n, (await objects.head("replaced")).tag)


async def rate(objects: Objects, count: int) -> float:
    numbers = iter(range(count))

    async def create() -> None:
        for n in numbers:
            await objects.create(f"r/{n}", SMALL)

    began = time.monotonic()
    await asyncio.gather(*[create() for _ in range(32)])
    return count / (time.monotonic() - began)


def run(calls: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        rows = [uvloop.run(measured("folder", f"file://{folder}/objects", calls))]
    try:
        url = buckets.fresh()
    except pytest.skip.Exception as missing:
        print(missing, file=sys.stderr)
        return rows
    return [*rows, uvloop.run(measured("S3", url, calls))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--calls", type=int, default=200)
    options = parser.parse_args()
    print(json.dumps({"bench": "objects", "objects": run(options.calls)}, indent=2))


if __name__ == "__main__":
    main()
