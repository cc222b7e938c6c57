"""The embedded registry's keys: durable, with compare-and-set, and held by sessions.

Holding a key keeps nobody from writing it: it only decides which of several sessions that ask has
it. When a session ends, its keys are free (or gone, as it wished) and nobody is given them until
its lock delay has passed, so that whoever held them has time to notice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from chassis.clock import Clock
from chassis.discovery.changes import Changes
from chassis.discovery.durable import Folder

TOPIC = "keys"
SUFFIX = ".key"


class Entry(msgspec.Struct, frozen=True):
    """One stored key; indexes as Consul names them. `lock_index` counts how often it was taken."""

    key: str
    value: bytes
    flags: int
    create_index: int
    modify_index: int
    session: str = ""
    lock_index: int = 0


class Keys:
    """The key-value part of the embedded registry."""

    def __init__(
        self, changes: Changes, entries: Iterable[Entry], folder: Folder[Entry], clock: Clock
    ) -> None:
        self._changes = changes
        self._entries = {entry.key: entry for entry in entries}
        self._folder = folder
        self._clock = clock
        self._deleted = changes.start
        self._delayed: dict[str, float] = {}

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
        session, taken = ("", 0) if old is None else (old.session, old.lock_index)
        self._set(key, value, flags, session, taken)
        return True

    def acquire(self, key: str, value: bytes, session: str, *, flags: int = 0) -> bool:
        """False when another session holds the key, or one did until just now."""
        old = self._entries.get(key)
        holder, taken = ("", 0) if old is None else (old.session, old.lock_index)
        if holder != session:
            if holder or self._is_delayed(key):
                return False
            taken += 1
        self._set(key, value, flags, session, taken)
        return True

    def release(self, key: str, value: bytes, session: str, *, flags: int = 0) -> bool:
        """False when `session` does not hold the key."""
        old = self._entries.get(key)
        if old is None or old.session != session:
            return False
        self._set(key, value, flags, "", old.lock_index)
        return True

    def let_go(self, session: str, delay_s: float, *, delete: bool) -> None:
        """What becomes of a session's keys when it ends."""
        held = [entry for entry in self._entries.values() if entry.session == session]
        for entry in held:
            self._delayed[entry.key] = self._clock.monotonic() + delay_s
            if not delete:
                self._set(entry.key, entry.value, entry.flags, "", entry.lock_index)
        if delete:
            self._remove(held)

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

    def _is_delayed(self, key: str) -> bool:
        until = self._delayed.get(key)
        if until is None or until > self._clock.monotonic():
            return until is not None
        del self._delayed[key]
        return False

    def _set(self, key: str, value: bytes, flags: int, session: str, lock_index: int) -> None:
        old = self._entries.get(key)
        index = self._changes.next()
        created = index if old is None else old.create_index
        entry = Entry(key, value, flags, created, index, session, lock_index)
        self._folder.write(key, entry)
        self._entries[key] = entry
        self._changes.happened(index, TOPIC)

    def _remove(self, entries: list[Entry]) -> None:
        if not entries:
            return
        self._folder.remove(entry.key for entry in entries)
        for entry in entries:
            del self._entries[entry.key]
        self._deleted = self._changes.next()
        self._changes.happened(self._deleted, TOPIC)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))
