"""The servers' logs: their ends, and what is added."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from chassis.clock import Clock

PAUSE_S = 0.2


def ends(files: Sequence[Path], lines: int) -> dict[str, list[str]]:
    """Instance -> the last lines of its log."""
    return {file.parent.name: _end(file, lines) for file in files}


async def follow(
    files: Sequence[Path], begin: Mapping[Path, int], clock: Clock, say: Callable[[str], None]
) -> None:
    """Says every line that is added behind `begin` (bytes by file), until cancelled. With several
    files each line begins with its instance."""
    read = dict(begin)
    prefix = {file: f"{file.parent.name}: " if len(files) > 1 else "" for file in files}
    while True:
        for file in files:
            size = _size(file)
            if size < read.get(file, 0):
                read[file] = 0
            for line in _added(file, read):
                say(prefix[file] + line)
        await clock.sleep(PAUSE_S)


def sizes(files: Sequence[Path]) -> dict[Path, int]:
    return {file: _size(file) for file in files}


def _added(file: Path, read: dict[Path, int]) -> list[str]:
    """The whole lines after what was read; half a line waits for its other half."""
    try:
        with file.open("rb") as stream:
            stream.seek(read.get(file, 0))
            whole, newline, _ = stream.read().rpartition(b"\n")
    except OSError:
        return []
    read[file] = read.get(file, 0) + len(whole) + len(newline)
    return whole.decode(errors="replace").split("\n") if newline else []


def _end(file: Path, lines: int) -> list[str]:
    try:
        with file.open(encoding="utf-8", errors="replace") as stream:
            return [line.rstrip("\n") for line in deque(stream, maxlen=lines)]
    except OSError:
        return []


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
