"""Durations as Go writes them and Consul's API takes them."""

from __future__ import annotations

import re

from chassis.errors import BadRequest

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")


def seconds(duration: str) -> float:
    """A Go duration ("1m30s", "1500ms") in seconds; `BadRequest` when it is none."""
    parts = _PART.findall(duration)
    if not parts or "".join(number + unit for number, unit in parts) != duration:
        raise BadRequest(f"{duration!r} is no duration; write for example 10s or 1m30s")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
