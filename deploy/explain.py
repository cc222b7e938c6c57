"""One request across all processes: their spans, gathered and drawn as a waterfall."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import httpx

from chassis.errors import NotFound

_WIDTH = 40


async def gather(home: Path, trace_id: str) -> list[dict[str, Any]]:
    """Every span of the trace that a running process still remembers, in order of start."""
    targets = _targets(home)
    async with httpx.AsyncClient(timeout=2) as http:
        found = await asyncio.gather(*(_ask(http, target, trace_id) for target in targets))
    spans = [span for part in found for span in part]
    return sorted(spans, key=lambda span: (span["start"], -span["duration_ms"]))


def _targets(home: Path) -> list[str]:
    try:
        groups = json.loads((home / "prometheus" / "targets.json").read_bytes())
    except OSError:
        raise NotFound(f"no system is running in {home}: start one with `make run`") from None
    return [target for group in groups for target in group["targets"]]


async def _ask(http: httpx.AsyncClient, target: str, trace_id: str) -> list[dict[str, Any]]:
    try:
        response = await http.get(f"http://{target}/traces/{trace_id}")
    except httpx.HTTPError:
        return []
    return response.json() if response.status_code == 200 else []


def waterfall(spans: Sequence[dict[str, Any]]) -> Iterable[str]:
    """One line a span: who, what, when within the trace, how long, and how it ended."""
    if not spans:
        return
    begin = min(span["start"] for span in spans)
    end = max(span["start"] + span["duration_ms"] / 1000 for span in spans)
    scale = _WIDTH / max(end - begin, 1e-6)
    depths = _depths(spans)
    for span in spans:
        left = min(_WIDTH - 1, int((span["start"] - begin) * scale))
        length = max(1, int(span["duration_ms"] / 1000 * scale))
        bar = " " * left + "▇" * min(length, _WIDTH - left)
        name = "  " * depths[span["span_id"]] + f"{span['service']} {span['name']}"
        yield f"{name:<44.44} {bar:<{_WIDTH}} {span['duration_ms']:8.2f} ms  {span['outcome']}"


def _depths(spans: Sequence[dict[str, Any]]) -> dict[str, int]:
    parents = {span["span_id"]: span["parent_id"] for span in spans}
    depths: dict[str, int] = {}
    for span_id in parents:
        depth, above = 0, parents[span_id]
        while above in parents and depth < len(parents):
            depth, above = depth + 1, parents[above]
        depths[span_id] = depth
    return depths
