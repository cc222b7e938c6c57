"""A table that a killed Cassandra had begun to remove."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from deploy.servers.removals import Record

COMMITTED = Record("COMMIT", "", 0, 0)
PARTS = ("Data.db", "Index.db", "Summary.db")
TIME_MS = 1_795_283_426_029


def half_removed(folder: Path, *, end: Record = COMMITTED, age_ms: int = 44) -> Path:
    """A table of three files in `folder` of which one is left, older by `age_ms` than the youngest
    was, and the transaction that removes it."""
    prefix = folder / "nb-901-big-"
    left = Path(f"{prefix}Summary.db")
    left.write_bytes(b"left")
    old = (TIME_MS - age_ms) * 1_000_000
    os.utime(left, ns=(old, old))
    write_log(folder, Record("REMOVE", str(prefix), TIME_MS, len(PARTS)), end)
    return left


def write_log(folder: Path, *records: Record) -> Path:
    log = folder / f"nb_txn_compaction_{uuid.uuid1()}.log"
    log.write_text("".join(f"{record.line()}\n" for record in records), encoding="utf-8")
    return log
