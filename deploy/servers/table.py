"""The servers as lines of text."""

from __future__ import annotations

from collections.abc import Iterable

from deploy.servers.running import Status

_HEAD = ("name", "version", "status", "port", "pid", "memory", "ready", "url")


def table(statuses: Iterable[Status]) -> list[str]:
    """One line an instance under a head, in columns; what is not known is a dash."""
    rows = [_HEAD, *(_row(one) for one in statuses)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _row(one: Status) -> tuple[str, ...]:
    return (
        one.name,
        one.version,
        one.status,
        str(one.port),
        str(one.pid or "-"),
        f"{one.rss >> 20} MB" if one.rss else "-",
        f"{one.ready_s:.1f} s" if one.ready_s else "-",
        f"{one.url} ({one.why})" if one.why else one.url,
    )
