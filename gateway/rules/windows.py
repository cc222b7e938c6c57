"""Time windows: a function of the instant, nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from gateway.rules.model import Window

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)\Z")


def compile_window(window: Window) -> Callable[[float], bool]:
    """Whether seconds since the epoch fall inside; `ValueError` says what is wrong."""
    after = _instant(window.after) if window.after is not None else float("-inf")
    before = _instant(window.before) if window.before is not None else float("inf")
    if after >= before:
        raise ValueError(f"window is empty: after {window.after}, before {window.before}")
    daily = _daily(window)
    if daily is None:
        if window.after is None and window.before is None:
            raise ValueError("a window needs after/before, start and end, or days")
        return lambda now: after <= now < before
    return lambda now: after <= now < before and daily(now)


def describe(window: Window) -> str:
    said = {
        "after": window.after,
        "before": window.before,
        "from": window.start,
        "to": window.end,
        "on": "/".join(window.days) or None,
        "in": window.timezone if window.start or window.days else None,
    }
    return " ".join(f"{word} {value}" for word, value in said.items() if value)


def _instant(text: str) -> float:
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no RFC 3339 instant (2030-01-31T20:00:00Z)") from None
    if when.tzinfo is None:
        raise ValueError(f"{text!r} does not say its offset (add Z or +01:00)")
    return when.timestamp()


def _daily(window: Window) -> Callable[[float], bool] | None:
    """The part that repeats every day; a window over midnight belongs to the day it starts on."""
    if (window.start is None) != (window.end is None):
        raise ValueError("a window needs both start and end")
    if window.start is None and not window.days:
        return None
    zone = _zone(window.timezone)
    start = _minutes(window.start or "00:00")
    end = _minutes(window.end or "00:00")
    if start == end and window.start is not None:
        raise ValueError(f"window is empty: it starts and ends at {window.start}")
    length = (end - start) % (24 * 60) or 24 * 60
    days = frozenset(DAYS.index(day) for day in window.days) or frozenset(range(7))

    def inside(now: float) -> bool:
        local = datetime.fromtimestamp(now, zone)
        since = local.hour * 60 + local.minute - start
        if since < 0:
            since += 24 * 60
            local -= timedelta(days=1)
        return since < length and local.weekday() in days

    return inside


def _minutes(text: str) -> int:
    found = _CLOCK.match(text)
    if found is None:
        raise ValueError(f"{text!r} is no time of day (HH:MM)")
    return int(found[1]) * 60 + int(found[2])


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"timezone {name!r} is not known here") from None
