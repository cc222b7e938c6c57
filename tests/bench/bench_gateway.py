"""The gateway beside nginx, Envoy and a bare proxy: CPU microseconds a request of the process.

    python -m tests.bench.bench_gateway [--seconds 3] [--rounds 3]

One rule, no authentication, one worker on one core; 64 keep-alive clients and a small JSON answer
from an nginx on the other core, next to wrk. CPU is user and system time from /proc over the
requests that wrk counted; the figure is the best of the rounds, which take turns, so that a busy
machine disturbs every proxy alike. Ratios are to nginx in the same run. The bare proxy is the least
that this interpreter can do (`tests.support.bare`). A table goes to standard error, JSON to
standard output.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.support import peers
from tests.support.peers import Server, Unavailable

CLIENTS = 64
PROXY_CORE, OTHER_CORE = 0, (os.cpu_count() or 1) - 1
BODY = json.dumps({"id": "tt0083658", "title": "Blade Runner", "year": 1982, "minutes": 117})
BAR, AMBITION = 1.5, 1.0
_COUNTED = re.compile(r"(\d+) requests in")

_GATEWAY = """\
import sys
from pathlib import Path
from gateway.app import run
from gateway.settings import Settings
run(Settings(rules=Path(sys.argv[1]), listen=sys.argv[2], home=Path(sys.argv[3]), log_successes=0))
"""
_ENVOY = """\
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bench
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{{match: {{prefix: "/"}}, route: {{cluster: up}}}}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: up
    type: STATIC
    load_assignment:
      cluster_name: up
      endpoints:
      - lb_endpoints:
        - endpoint:
            address: {{socket_address: {{address: 127.0.0.1, port_value: {upstream}}}}}
"""  # noqa: E501  # Envoy's own names


def start_upstream(folder: Path) -> Server:
    answer = f"location / {{ default_type application/json; return 200 '{BODY}'; }}"
    return peers.nginx(folder, "upstream", answer, core=OTHER_CORE)


def start_nginx(folder: Path, upstream: int) -> Server:
    proxy = (
        "location / { proxy_pass http://up; proxy_http_version 1.1; "
        'proxy_set_header Connection ""; proxy_set_header Host $host; }'
    )
    pool = (
        f"upstream up {{ server 127.0.0.1:{upstream}; keepalive {CLIENTS}; "
        "keepalive_requests 100000000; }"
    )
    return peers.nginx(folder, "nginx", proxy, core=PROXY_CORE, extra=pool)


def start_envoy(folder: Path, upstream: int) -> Server:
    port, conf = peers.free_port(), folder / "envoy.yaml"
    conf.write_text(_ENVOY.format(port=port, upstream=upstream))
    command = [peers.envoy(), "-c", str(conf), "--concurrency", "1", "--log-level", "error"]
    command += ["--use-dynamic-base-id"]
    return Server("envoy", command, port, core=PROXY_CORE, log=folder / "envoy.log")


def start_gateway(folder: Path, upstream: int) -> Server:
    port, rules = peers.free_port(), folder / "rules.yaml"
    rules.write_text(
        f"clusters: {{up: {{instances: ['127.0.0.1:{upstream}']}}}}\n"
        "rules: [{name: all, forward: up}]\n"
    )
    listen, home = f"127.0.0.1:{port}", str(folder / "home")
    command = [sys.executable, "-c", _GATEWAY, str(rules), listen, home]
    return Server("gateway", command, port, core=PROXY_CORE, log=folder / "gateway.log")


def start_bare(folder: Path, upstream: int) -> Server:
    port = peers.free_port()
    command = [sys.executable, "-m", "tests.support.bare", str(port), str(upstream)]
    return Server("bare", command, port, core=PROXY_CORE, log=folder / "bare.log")


STARTS: dict[str, Callable[[Path, int], Server]] = {
    "nginx": start_nginx,
    "envoy": start_envoy,
    "bare": start_bare,
    "gateway": start_gateway,
}


def load(server: Server, seconds: float) -> int:
    """Requests answered with 200; raises `Unavailable` when any was not."""
    wrk = peers.debian("wrk", "wrk")
    command = ["taskset", "-c", str(OTHER_CORE), wrk, "-t1", f"-c{CLIENTS}", f"-d{seconds:.0f}s"]
    command.append(f"http://127.0.0.1:{server.port}/v1/titles/tt0083658")
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    counted = _COUNTED.search(told)
    if counted is None or "Non-2xx" in told or "Socket errors" in told:
        raise Unavailable(f"{server.name} failed requests: {told}")
    return int(counted[1])


def measure(server: Server, seconds: float) -> dict[str, float]:
    """One round."""
    before = server.cpu_s()
    requests = load(server, seconds)
    spent = server.cpu_s() - before
    return {
        "us": spent * 1e6 / requests,
        "per_s": requests / seconds,
        "rss_mb": server.rss_mb(),
    }


def compare(seconds: float, rounds: int) -> Iterator[dict[str, object]]:
    """A row a proxy: its best round, and the ratio to nginx."""
    with tempfile.TemporaryDirectory(prefix="stagedoor-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        upstream = start_upstream(folder)
        stack.callback(upstream.stop)
        upstream.wait_ready()
        servers, missing = _start_all(folder, upstream.port, stack)
        for server in servers:
            load(server, 1)
        taken = [(s.name, measure(s, seconds)) for _ in range(rounds) for s in servers]
        best = {
            server.name: min((row for n, row in taken if n == server.name), key=_cost)
            for server in servers
        }
        floor = best.get("nginx", {}).get("us")
        for proxy, row in best.items():
            ratio = row["us"] / floor if floor else None
            yield {"proxy": proxy, **row, "to_nginx": ratio}
        for proxy, reason in missing.items():
            yield {"proxy": proxy, "missing": reason}


def _cost(row: dict[str, float]) -> float:
    return row["us"]


def _start_all(
    folder: Path, upstream: int, stack: ExitStack
) -> tuple[list[Server], dict[str, str]]:
    servers: list[Server] = []
    missing: dict[str, str] = {}
    for name, start in STARTS.items():
        try:
            server = start(folder, upstream)
            stack.callback(server.stop)
            server.wait_ready()
            servers.append(server)
        except Unavailable as reason:
            missing[name] = str(reason)
    return servers, missing


def show(rows: list[dict[str, object]]) -> None:
    print(f"{'proxy':<10}{'CPU us':>8}{'to nginx':>10}{'req/s':>9}{'RSS MB':>8}", file=sys.stderr)
    for row in rows:
        if "missing" in row:
            print(f"{row['proxy']:<10} {row['missing']}", file=sys.stderr)
            continue
        ratio = f"{row['to_nginx']:.2f}" if row["to_nginx"] else "-"
        told = f"{row['proxy']:<10}{row['us']:>8.1f}{ratio:>10}{row['per_s']:>9.0f}"
        print(f"{told}{row['rss_mb']:>8.1f}", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=3, help="of each round of each proxy")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    rows = list(compare(asked.seconds, asked.rounds))
    show(rows)
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": sys.version[:7]}
    ours = next((row.get("to_nginx") for row in rows if row["proxy"] == "gateway"), None)
    kept = isinstance(ours, float) and ours <= BAR
    told = {"bench": "gateway", "machine": machine, "rows": rows, "bar": BAR, "kept": kept}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
