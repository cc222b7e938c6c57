"""Whether the machine has the memory for what is asked."""

from __future__ import annotations

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
