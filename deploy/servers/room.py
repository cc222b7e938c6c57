"""Whether the machine has the memory and the disk for what is asked."""

from __future__ import annotations

import os
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")


def available_memory(meminfo: str | None = None) -> int:
    """Bytes that new processes may have without pushing others out."""
    text = _MEMINFO.read_text(encoding="ascii") if meminfo is None else meminfo
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return int(fields["MemAvailable"].split()[0]) * 1024


def memory_fault(wanted: dict[str, int], available: int) -> str | None:
    """`wanted` is bytes by server. One sentence when they do not fit."""
    total = sum(wanted.values())
    if total <= available:
        return None
    parts = ", ".join(f"{name} {size >> 20} MB" for name, size in wanted.items() if size)
    return (
        f"not enough memory: {available >> 20} MB are available and about {total >> 20} MB are"
        f" needed ({parts}): start fewer servers or instances, or stop something else"
    )


def disk_fault(folder: Path, needed: int, variable: str) -> str | None:
    """One sentence when fewer than `needed` bytes are free in `folder`, which `variable` names."""
    room = os.statvfs(folder)
    free = room.f_bavail * room.f_frsize
    if free >= needed:
        return None
    return (
        f"{folder}: {free >> 20} MB are free and {needed >> 20} MB are needed: make room, or set"
        f" {variable} to a folder on another disk"
    )
