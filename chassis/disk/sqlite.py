"""SQLite as we use it: WAL, synchronous=FULL, explicit transactions, faults in plain words.

In WAL mode readers never wait for the writer, and several processes may open one file. A
connection's statements run in one thread at a time; ours are made on the loop's thread and the
writing ones are then used by a `GroupCommit` thread only.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chassis.disk.files import alone_in, make_folder, sync_folder, unavailable
from chassis.errors import Faulty, StagedoorError, StoreUnavailable, Unprocessable

_WRITE_WAIT_S = 10.0  # for another process's transaction, in a thread
_READ_WAIT_S = 1.0  # inline; only recovery after a crash keeps a reader waiting
_CHECKPOINT_PAGES = 4000
_WAL_LIMIT_BYTES = 64 << 20
_CACHE_KIB = 512  # a connection; what it forgets is in the system's page cache still

_WHAT_TO_DO = {
    "SQLITE_FULL": "the disk is full: free some space",
    "SQLITE_READONLY": "it cannot be written: check its owner and mode, and that the file system"
    " is not mounted read-only",
    "SQLITE_CANTOPEN": "it cannot be opened: check that the folder exists and may be written",
    "SQLITE_PERM": "permission denied: check its owner and mode",
    "SQLITE_BUSY": "another process has been writing for too long: see which one holds the file",
    "SQLITE_IOERR": "reading or writing failed: check the disk and the file size limit",
    "SQLITE_CORRUPT": "the file is damaged: move it away and restore or rebuild it",
    "SQLITE_NOTADB": "this is no SQLite database: move it away or choose another path",
}

Operation = Callable[[sqlite3.Connection], Any]
_BAD_VALUES = (sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError)


def connect(path: Path, *, writes: bool, page_size: int = 4096) -> sqlite3.Connection:
    """Opens or creates the database; one that `writes` fails here where it may not.

    A new one may be read by its owner only: some hold keys and the hashes of passwords.
    """
    make_folder(path.parent)
    try:
        with alone_in(path.parent):
            connection = _connected(path, writes=writes, page_size=page_size)
    except sqlite3.Error as fault:
        raise translated(fault, path) from fault
    except OSError as fault:
        raise unavailable(fault, path) from fault
    if writes and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        connection.close()
        raise StoreUnavailable(f"{path}: {_WHAT_TO_DO['SQLITE_READONLY']}")
    return connection


def _connected(path: Path, *, writes: bool, page_size: int) -> sqlite3.Connection:
    new = not path.exists()
    if new:
        path.touch(mode=0o600)
    connection = sqlite3.connect(
        path,
        timeout=_WRITE_WAIT_S if writes else _READ_WAIT_S,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.execute(f"PRAGMA page_size={page_size}")
    connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
    connection.execute("PRAGMA journal_mode=WAL")  # two at once on a new file: one is refused
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit={_WAL_LIMIT_BYTES}")
    if new:
        sync_folder(path.parent)
    return connection


def translated(fault: Exception, path: Path) -> StagedoorError:
    """What a driver's exception means to the caller."""
    if isinstance(fault, StagedoorError):
        return fault
    if isinstance(fault, sqlite3.ProgrammingError) and "closed" in str(fault):
        return StoreUnavailable(f"{path} is closed")
    if isinstance(fault, (*_BAD_VALUES, OverflowError, UnicodeError)):
        return Unprocessable(f"a value that cannot be stored: {fault}")
    if not isinstance(fault, sqlite3.Error):
        return Faulty(f"{path}: {fault!r}")
    name = getattr(fault, "sqlite_errorname", "")
    if name == "SQLITE_ERROR":
        return Faulty(
            f"{path}: {fault}: a table that was dropped is made again, empty, when the process that"
            " keeps it starts (by prepare(), which must be given every row type)"
        )
    family = "_".join(name.split("_")[:2])
    return StoreUnavailable(f"{path}: {_WHAT_TO_DO.get(family, str(fault))}")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing, durable at the end."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def commit_together(
    connection: sqlite3.Connection, path: Path, operations: Sequence[Operation]
) -> list[Any]:
    """The outcome of each operation, all in one transaction.

    When one fails they are tried again one by one, so that it fails alone.
    """
    try:
        with transaction(connection):
            return [operation(connection) for operation in operations]
    except Exception as fault:
        if len(operations) == 1:
            return [translated(fault, path)]
    return [commit_together(connection, path, [operation])[0] for operation in operations]
