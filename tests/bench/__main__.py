"""Runs the benches and writes bench/results.md: `python -m tests.bench [NAME ...]`.

Each bench is a module `bench_NAME` that prints one JSON value. The values are kept one file a
bench under bench/, so that measuring one of them again leaves the others as they were; results.md
is made of all of them.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench"
NAMES = (
    "start",
    "play",
    "gateway",
    "edge",
    "retries",
    "rules",
    "http_client",
    "resilience",
    "registry",
    "servers",
    "events",
    "stream",
    "cassandra",
    "kafka",
    "objects",
    "cache",
)
ON_DEMAND = ("bodies", "restart", "soak")
"""Minutes long: only when they are named."""
HEAD = """\
# Measured

Written by `make bench`; every figure comes from the command beside it. The machine is shared and
noisy: believe the ratios between rows of one run, not single times.
"""


class Failed(Exception):
    """A bench did not end well; what it wrote to standard error says why."""


def run(name: str) -> Any:
    """One bench in a process of its own; its JSON value."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.bench.bench_{name}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise Failed(f"bench {name} failed with status {done.returncode}")
    return json.loads(done.stdout)


def keep(name: str, value: Any, folder: Path = RESULTS) -> None:
    folder.mkdir(exist_ok=True)
    when = datetime.now(UTC).date().isoformat()
    kept = {"measured": when, "machine": machine(), "value": value}
    (folder / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def machine() -> str:
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        pass
    return f"{os.cpu_count()} cores, {model}, Python {platform.python_version()}"


def page(folder: Path = RESULTS) -> str:
    """results.md from every kept value."""
    parts = [HEAD]
    for name in (*NAMES, *ON_DEMAND):
        file = folder / f"{name}.json"
        if file.exists():
            kept = json.loads(file.read_text(encoding="utf-8"))
            parts += [
                f"## {name}\n",
                f"`make bench BENCH={name}`, {kept['measured']}; {kept['machine']}\n",
                *tables(kept["value"]),
                "",
            ]
    return "\n".join(parts)


def tables(value: Any) -> Iterator[str]:
    """A value as Markdown: lists of records as a table, everything else as a line a leaf."""
    for key, part in value.items():
        if key == "bench":
            continue
        if isinstance(part, list) and part and isinstance(part[0], dict):
            yield from _records(part)
        else:
            yield from _leaves(key, part)


def _records(rows: list[dict[str, Any]]) -> Iterator[str]:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    yield ""
    yield "| " + " | ".join(columns) + " |"
    yield "|" + "---|" * len(columns)
    for row in rows:
        yield "| " + " | ".join(_shown(row.get(name, "")) for name in columns) + " |"
    yield ""


def _leaves(key: str, part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        for name, inner in part.items():
            yield from _leaves(f"{key}.{name}", inner)
    else:
        yield f"- {key}: {_shown(part)}"


def _shown(value: Any) -> str:
    if isinstance(value, float) and abs(value) < 1000:
        return f"{value:,.4g}"
    return str(value).replace("|", "\\|")


def main() -> None:
    asked = sys.argv[1:] or list(NAMES)
    known = (*NAMES, *ON_DEMAND)
    unknown = set(asked) - set(known)
    if unknown:
        raise SystemExit(f"no bench {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    failed = [name for name in asked if not measured(name)]
    (RESULTS / "results.md").write_text(page(), encoding="utf-8")
    print(f"wrote {RESULTS.relative_to(ROOT)}/results.md", file=sys.stderr)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def measured(name: str) -> bool:
    """Runs one bench and keeps its value; one that fails is said so and stops no other."""
    print(f"bench {name} …", file=sys.stderr, flush=True)
    try:
        keep(name, run(name))
    except (Failed, ValueError) as fault:
        print(fault, file=sys.stderr)
        return False
    return True


if __name__ == "__main__":
    main()
