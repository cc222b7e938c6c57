"""Finding a route among 10, 1,000 and 10,000 rules: nanoseconds a match, and seconds to build.

    python -m tests.bench.bench_rules [--matches 20000]

Bars: the same cost within 2x whatever the number of rules; p99 under 50 us at 10,000. A table goes
to standard error, JSON to standard output.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from chassis.clock import SYSTEM
from gateway.rules.build import build
from gateway.rules.explain import Request, request_of
from gateway.rules.match import Snapshot

SIZES = (10, 1_000, 10_000)
RULES_AN_AREA = 5


def document(rules: int) -> bytes:
    """Prefixes, exact paths, templates, expressions and conditions, on 16 hosts and on any."""
    lines = ["clusters: {catalog: {service: catalog}}", "rules:"]
    for number in range(rules):
        area, kind = divmod(number, RULES_AN_AREA)
        hosts = f"hosts: [h{area % 16}.example], " if area % 2 else ""
        match = _match(f"/v1/area{area}", kind)
        lines.append(f"- {{name: r{number}, match: {{{hosts}{match}}}, forward: catalog}}")
    return "\n".join(lines).encode()


def _match(base: str, kind: int) -> str:
    return (
        f"path_prefix: {base}, methods: [GET, HEAD]",
        f"path: {base}/all",
        f"path_template: '{base}/{{id}}/parts'",
        f"path_regex: '{base}/[0-9]+/raw'",
        f"path_prefix: {base}, headers: {{x-preview: 'on'}}",
    )[kind]


def requests(rules: int) -> list[tuple[Request, str]]:
    """One of each kind in the middle of the document, and the rule it must find."""
    area = rules // RULES_AN_AREA // 2
    first = area * RULES_AN_AREA
    host = f"http://h{area % 16}.example/v1/area{area}"
    asked = (
        (request_of("GET", f"{host}/x/y"), first),
        (request_of("GET", f"{host}/all"), first + 1),
        (request_of("POST", f"{host}/7/parts"), first + 2),
        (request_of("POST", f"{host}/7/raw"), first + 3),
        (request_of("PUT", f"{host}/x", headers={"x-preview": "on"}), first + 4),
    )
    return [(request, f"r{number}") for request, number in asked]


def measure(rules: int, matches: int) -> dict[str, float]:
    text = document(rules)
    began = time.perf_counter()
    snapshot, _ = build(text, "rules.yaml", SYSTEM, version=1)
    built = time.perf_counter() - began
    asked = requests(rules)
    for request, name in asked:
        found = snapshot.match(request)
        assert found is not None
        assert found.route.name == name, (found, name)
    times = sorted(_times(snapshot, [request for request, _ in asked], matches))
    return {
        "rules": rules,
        "p50_us": times[len(times) // 2] / 1_000,
        "p99_us": times[len(times) * 99 // 100] / 1_000,
        "build_s": built,
    }


def _times(snapshot: Snapshot, asked: list[Request], matches: int) -> list[int]:
    now, match = time.perf_counter_ns, snapshot.match
    times = []
    for number in range(matches):
        request = asked[number % len(asked)]
        began = now()
        match(request)
        times.append(now() - began)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--matches", type=int, default=20_000)
    matches = parser.parse_args().matches
    rows = [measure(rules, matches) for rules in SIZES]
    print(f"{'rules':>8} {'p50 us':>8} {'p99 us':>8} {'build s':>8}", file=sys.stderr)
    for row in rows:
        told = f"{row['rules']:8.0f} {row['p50_us']:8.2f} {row['p99_us']:8.2f}"
        print(f"{told} {row['build_s']:8.2f}", file=sys.stderr)
    ratio = rows[-1]["p50_us"] / rows[0]["p50_us"]
    kept = ratio <= 2 and rows[-1]["p99_us"] < 50
    print(json.dumps({"bench": "rules", "rows": rows, "ratio": ratio, "kept": kept}))


if __name__ == "__main__":
    main()
