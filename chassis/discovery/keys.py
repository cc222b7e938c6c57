"""Durable keys with compare-and-set: one file a key, fsynced and renamed into place.

Writes happen on the calling thread: they are rare and small, and nothing can come between the
comparison and the set.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from chassis.discovery.changes import Changes
from chassis.disk.files import sync_folder
from chassis.errors import StoreUnavailable

TOPIC = "keys"
_SUFFIX = ".key"


class Entry(msgspec.Struct, frozen=True):
    """One stored key; indexes as Consul names them."""

    key: str
    value: bytes
    flags: int
    create_index: int
    modify_index: int


def load(directory: Path | None) -> dict[str, Entry]:
    """Every stored key; `StoreUnavailable` names the file that cannot be read."""
    if directory is None:
        return {}
    entries: dict[str, Entry] = {}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for draft in directory.glob("*.tmp"):
            draft.unlink()
        for file in directory.glob(f"*{_SUFFIX}"):
            entry = _decoded(file)
            entries[entry.key] = entry
    except OSError as fault:
        raise StoreUnavailable(f"the registry's keys cannot be read: {fault}") from fault
    return entries


def _decoded(file: Path) -> Entry:
    try:
        return msgspec.msgpack.decode(file.read_bytes(), type=Entry)
    except msgspec.DecodeError as fault:
        raise StoreUnavailable(f"{file} is damaged ({fault}); move it away to go on") from fault


class Keys:
    """The key-value part of the embedded registry."""

    def __init__(self, changes: Changes, entries: dict[str, Entry], directory: Path | None) -> None:
        self._changes = changes
        self._entries = entries
        self._directory = directory
        self._deleted = changes.start

    def get(self, key: str) -> Entry | None:
        return self._entries.get(key)

    def under(self, prefix: str) -> list[Entry]:
        """The entries whose key starts with `prefix`, by key."""
        found = (entry for key, entry in self._entries.items() if key.startswith(prefix))
        return sorted(found, key=lambda entry: entry.key)

    def index(self, key: str) -> int:
        """The key's last change; of a missing key the last deletion of any."""
        entry = self._entries.get(key)
        return self._deleted if entry is None else entry.modify_index

    def index_under(self, prefix: str) -> int:
        """The last change under `prefix`, deletions of any key included."""
        return max(self._deleted, *(entry.modify_index for entry in self.under(prefix)), 0)

    def put(self, key: str, value: bytes, *, flags: int = 0, cas: int | None = None) -> bool:
        """False when `cas` is not the key's index (0: when the key exists)."""
        old = self._entries.get(key)
        if cas is not None and cas != (0 if old is None else old.modify_index):
            return False
        index = self._changes.next()
        created = index if old is None else old.create_index
        entry = Entry(key, value, flags, created, index)
        self._write(entry)
        self._entries[key] = entry
        self._changes.happened(index, TOPIC)
        return True

    def delete(self, key: str, *, cas: int | None = None) -> bool:
        """True also when there was no such key; False when `cas` is not its index."""
        old = self._entries.get(key)
        if old is None:
            return True
        if cas is not None and cas != old.modify_index:
            return False
        self._remove([old])
        return True

    def delete_under(self, prefix: str) -> None:
        self._remove(self.under(prefix))

    def _remove(self, entries: list[Entry]) -> None:
        if not entries:
            return
        for entry in entries:
            if self._directory is not None:
                _file(self._directory, entry.key).unlink(missing_ok=True)
            del self._entries[entry.key]
        if self._directory is not None:
            sync_folder(self._directory)
        self._deleted = self._changes.next()
        self._changes.happened(self._deleted, TOPIC)

    def _write(self, entry: Entry) -> None:
        if self._directory is None:
            return
        final = _file(self._directory, entry.key)
        draft = final.with_suffix(".tmp")
        try:
            with draft.open("wb") as out:
                out.write(msgspec.msgpack.encode(entry))
                out.flush()
                os.fsync(out.fileno())
            draft.replace(final)
            sync_folder(self._directory)
        except OSError:
            draft.unlink(missing_ok=True)
            raise

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))


def _file(directory: Path, key: str) -> Path:
    """Keys are longer and wilder than file names may be, so the name is a digest."""
    return directory / (hashlib.sha256(key.encode()).hexdigest() + _SUFFIX)
