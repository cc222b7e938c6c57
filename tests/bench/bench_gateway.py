"""The gateway beside nginx, HAProxy and Envoy: what a request costs the proxy's process.

    python -m tests.bench.bench_gateway [--seconds 2] [--rounds 3]

One rule, no authentication, one worker on one core; the upstream is an nginx on the other core,
next to wrk. Paths: `keep-alive` (64 clients, a small JSON answer), `new connections` (one each),
`tls`, and `1 MB` of body: microseconds of CPU a request, user and system time from /proc over the
requests that wrk counted, the best of the rounds, which take turns so that a busy machine disturbs
every proxy alike. `everything` is the gateway with a thousand rules, tokens, passports, rate
limits, retries, hedges, health checks and a log line a request, beside the others as they are.
`half load` is latency over that of asking the upstream itself, at half of what the slowest can take
(the client's own limit is 6,000 a second). `idle` is the memory with 10,000 connections that have
asked once. Ratios are to nginx in the same run. The bare proxy is the least that this interpreter
can do (`tests.support.bare`). A table goes to standard error, JSON to
standard output.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import peers, proxies
from tests.support.peers import Unavailable
from tests.support.proxies import OTHER_CORE, Proxy

IDLE = 10_000
IDLE_REQUEST = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
PACED_MAXIMUM = 6_000
BAR, AMBITION = 1.5, 1.0
RSS_BAR, IDLE_BAR = 60, 150
_COUNTED = re.compile(r"(\d+) requests in")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk does. The few clients of large bodies fill a core already."""

    path: str
    target: str = "/v1/titles/tt0083658"
    clients: int = 64
    secure: bool = False
    closes: bool = False
    credential: str = ""


KEEP_ALIVE = Load("keep-alive")
OTHERS = (
    Load("new connections", closes=True),
    Load("tls", secure=True),
    Load("1 MB", target="/large", clients=8),
)


def drive(proxy: Proxy, load: Load, seconds: float) -> int:
    """Requests answered with 200; raises `Unavailable` when any was not."""
    scheme, port = ("https", proxy.secure_port) if load.secure else ("http", proxy.server.port)
    wrk = peers.debian("wrk", "wrk")
    command = ["taskset", "-c", str(OTHER_CORE), wrk, "-t1", f"-c{load.clients}"]
    command += [f"-d{seconds:.0f}s", *(("-H", "Connection: close") if load.closes else ())]
    command += ["-H", f"Authorization: {load.credential}"] if load.credential else []
    command.append(f"{scheme}://127.0.0.1:{port}{load.target}")
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    counted = _COUNTED.search(told)
    failed = "Non-2xx" in told or ("Socket errors" in told and not load.closes)
    if counted is None or failed or not int(counted[1]):
        raise Unavailable(f"{proxy.name} failed requests: {told}")
    return int(counted[1])


def measure(proxy: Proxy, load: Load, seconds: float) -> Row:
    """One round."""
    before = proxy.server.cpu_s()
    requests = drive(proxy, load, seconds)
    spent = proxy.server.cpu_s() - before
    return {
        "us": spent * 1e6 / requests,
        "per_s": requests / seconds,
        "rss_mb": proxy.server.rss_mb(),
    }


def costs(running: list[Proxy], load: Load, seconds: float, rounds: int) -> Iterator[Row]:
    """A row a proxy: its best round, and the ratio to nginx."""
    taken: dict[str, list[Row]] = {}
    for proxy in running * rounds:
        taken.setdefault(proxy.name, []).append(measure(proxy, load, seconds))
    best = {name: min(rows, key=_cost) for name, rows in taken.items()}
    floor = best.get("nginx", {}).get("us")
    for name, row in best.items():
        yield {"path": load.path, "proxy": name, **row, "to_nginx": _ratio(row["us"], floor)}


def _cost(row: Row) -> float:
    return float(row["us"])


def _ratio(one: float, floor: float | None) -> float | None:
    return one / floor if floor else None


def latencies(running: list[Proxy], upstream: int, rate: float, seconds: float) -> Iterator[Row]:
    """Milliseconds that each adds to asking the upstream itself."""
    ports = {"": upstream} | {proxy.name: proxy.server.port for proxy in running}
    found: dict[str, Row] = {}
    for name, port in ports.items():
        command = ["taskset", "-c", str(OTHER_CORE), sys.executable, "-m", "tests.support.paced"]
        command += [str(port), str(rate), str(seconds)]
        told = subprocess.run(command, capture_output=True, text=True, check=False)
        if told.returncode != 0:
            raise Unavailable(f"at {rate:.0f} a second {name or 'upstream'}: {told.stderr[-200:]}")
        found[name] = json.loads(told.stdout)
    direct = found.pop("")
    for name, row in found.items():
        added = {f"{part}_added_ms": (row[part] - direct[part]) * 1e3 for part in ("p50", "p99")}
        to_nginx = _ratio(added["p99_added_ms"], _added(found.get("nginx"), direct))
        yield {"path": "half load", "proxy": name, "per_s": rate, **added, "to_nginx": to_nginx}


def _added(row: Row | None, direct: Row) -> float | None:
    return None if row is None else (row["p99"] - direct["p99"]) * 1e3


def idle(running: list[Proxy]) -> Iterator[Row]:
    """Memory with connections that wait for another request."""
    for proxy in running:
        with ExitStack() as stack:
            for _ in range(IDLE):
                client = stack.enter_context(socket.create_connection(_at(proxy), 5))
                client.sendall(IDLE_REQUEST)
                if not client.recv(4096).startswith(b"HTTP/1.1 200"):
                    raise Unavailable(f"{proxy.name} does not serve {IDLE} connections")
            yield {"path": "idle", "proxy": proxy.name, "rss_mb": proxy.server.rss_mb()}


def _at(proxy: Proxy) -> tuple[str, int]:
    return "127.0.0.1", proxy.server.port


def compare(seconds: float, rounds: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="stagedoor-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        proxies.prepare(folder)
        upstream = proxies.upstream(folder)
        stack.callback(upstream.stop)
        upstream.wait_ready()
        running, missing = _start_all(folder, upstream.port, stack)
        yield from missing
        for proxy in running:
            drive(proxy, KEEP_ALIVE, 1)
        rows = list(costs(running, KEEP_ALIVE, seconds, rounds))
        yield from rows
        real = [proxy for proxy in running if proxy.secure_port is not None]
        for load in OTHERS:
            yield from costs(real, load, seconds, max(1, rounds - 1))
        yield from all_on(folder, upstream.port, real, seconds, rounds)
        rate = min(PACED_MAXIMUM, min(row["per_s"] for row in rows) / 2)
        yield from latencies(real, upstream.port, rate, seconds + 1)
        yield from idle(real)


def all_on(
    folder: Path, upstream: int, running: list[Proxy], seconds: float, rounds: int
) -> Iterator[Row]:
    """Ours with everything on beside peers that do no more than before for the same request."""
    load = Load("everything", credential=proxies.bearer(folder))
    full = proxies.everything(folder, upstream)
    peers_only = [proxy for proxy in running if not proxy.name.startswith("gateway")]
    try:
        full.server.wait_ready()
        drive(full, load, 1)
        yield from costs([*peers_only, full], load, seconds, rounds)
    finally:
        full.server.stop()


def _start_all(folder: Path, upstream: int, stack: ExitStack) -> tuple[list[Proxy], list[Row]]:
    running: list[Proxy] = []
    missing: list[Row] = []
    for start in proxies.STARTS:
        try:
            proxy = start(folder, upstream)
            stack.callback(proxy.server.stop)
            proxy.server.wait_ready()
            running.append(proxy)
        except Unavailable as reason:
            missing.append({"path": "", "proxy": start.__name__, "missing": str(reason)})
    return running, missing


def told(row: Row) -> str:
    if "missing" in row:
        return f"{'':<17}{row['proxy']:<15} {row['missing']}"
    text = f"{row['path']:<17}{row['proxy']:<15}"
    if "us" in row:
        text += f"{row['us']:>9.1f} us{row['per_s']:>9.0f}/s"
    elif "p99_added_ms" in row:
        text += f"{row['p50_added_ms']:>8.2f} and{row['p99_added_ms']:>6.2f} ms more at p50 and p99"
    if "rss_mb" in row:
        text += f"{row['rss_mb']:>8.1f} MB"
    return f"{text}{row['to_nginx']:>7.2f}x" if row.get("to_nginx") else text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=2, help="of each round of each proxy")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    rows: list[Row] = []
    for row in compare(asked.seconds, asked.rounds):
        rows.append(row)
        print(told(row), file=sys.stderr, flush=True)
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": sys.version[:7]}
    ours = {row["path"]: row for row in rows if row["proxy"] == "gateway"}
    kept = {
        "keep_alive": (_value(ours, "keep-alive", "to_nginx") or BAR + 1) <= BAR,
        "rss": _value(ours, "keep-alive", "rss_mb") <= RSS_BAR,
        "idle": _value(ours, "idle", "rss_mb") <= IDLE_BAR,
        "everything": all_on_is_cheaper(rows),
    }
    bars = {"keep_alive": BAR, "everything": "Envoy's", "rss_mb": RSS_BAR, "idle_mb": IDLE_BAR}
    print(
        json.dumps(
            {"bench": "gateway", "machine": machine, "rows": rows, "bars": bars, "kept": kept}
        )
    )


def all_on_is_cheaper(rows: list[Row]) -> bool:
    """Whether everything on costs less than Envoy without it."""
    taken = {row["proxy"]: row["us"] for row in rows if row["path"] == "everything"}
    return "envoy" in taken and taken["gateway, all on"] < taken["envoy"]


def _value(ours: dict[str, Row], path: str, name: str) -> float:
    return float(ours[path][name] or 0) if path in ours else float("inf")


if __name__ == "__main__":
    main()
