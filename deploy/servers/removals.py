"""Finishes what a Cassandra that was killed had begun to remove.

A compaction writes which tables of its input it removes into a transaction log, commits it, and
removes their files. Cassandra 5.0 wants the youngest file of each to be there at its next start, or
none: killed between two files, it would not start again.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_RECORD = re.compile(
    r"(ADD|REMOVE|COMMIT|ABORT):\[([^,\n]*),(\d{1,18}),(\d{1,9})\]\[(\d{1,10})\]", re.ASCII
)
_TABLE = re.compile(r"[a-z]{2}-[0-9a-z_]+-[a-z]+-")
"""How the names of a table's files begin."""


class Record(NamedTuple):
    """One line: `prefix` begins the paths of `files` files, the youngest of `time_ms`."""

    kind: str
    prefix: str
    time_ms: int
    files: int

    def line(self) -> str:
        """As Cassandra writes it; the checksum is that of its LogRecord.computeChecksum."""
        high, low = divmod(self.time_ms, 1 << 32)
        numbers = struct.pack(">III", low, high, self.files)
        checksum = zlib.crc32(self.prefix.encode() + self.kind.encode() + numbers)
        return f"{self.kind}:[{self.prefix},{self.time_ms},{self.files}][{checksum}]"


def finish_removals(data: Path) -> None:
    """Removes what is left of tables that a committed transaction had begun to remove; `data` has a
    folder a keyspace and in it one a table. A log that is not whole is left to Cassandra to judge,
    and so is a table of which all files are there, perhaps from a backup."""
    for log in data.glob("*/*/*_txn_*_*.log"):
        for record in _committed(log):
            left = _files(log.parent, Path(record.prefix).name)
            if 0 < len(left) < record.files and _youngest_ms(left) < record.time_ms:
                for file in left:
                    file.unlink()


def _committed(log: Path) -> Iterator[Record]:
    """What a transaction removes that has been committed; nothing of any other."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    records = [
        Record(found[1], found[2], int(found[3]), int(found[4]))
        for found in map(_RECORD.fullmatch, lines)
        if found
    ]
    if [record.line() for record in records] != lines or not records:
        return
    if records[-1].kind == "COMMIT":
        yield from (record for record in records if record.kind == "REMOVE")


def _files(folder: Path, begin: str) -> list[Path]:
    if _TABLE.fullmatch(begin) is None:
        return []
    return [file for file in folder.iterdir() if file.name.startswith(begin)]


def _youngest_ms(files: list[Path]) -> int:
    return max(file.stat().st_mtime_ns for file in files) // 1_000_000
