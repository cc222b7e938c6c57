"""The state directory: its layout, and the checks before anything starts in it."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from chassis.clock import Clock
from chassis.disk.files import replace_file
from chassis.errors import ConfigurationFault
from chassis.identity import Keyring

MINIMUM_FREE = 64 << 20
_ODD = "?#%"
FOLDERS = ("run", "log", "data", "keys", "registry", "events", "spool", "archive", "prometheus")


class Home:
    """`root` and everything the supervisor keeps below it."""

    def __init__(self, root: Path, *, minimum_free: int = MINIMUM_FREE) -> None:
        self.root = root.absolute()
        self._minimum_free = minimum_free
        self._lock: int | None = None

    @property
    def state_file(self) -> Path:
        return self.root / "run" / "state.json"

    @property
    def control_socket(self) -> Path:
        return self.root / "run" / "control.sock"

    @property
    def lock_file(self) -> Path:
        return self.root / "run" / "lock"

    @property
    def keyring_file(self) -> Path:
        return self.root / "keys" / "inside.json"

    def prepare(self, clock: Clock) -> None:
        """Makes the folders and the keyring, and takes the lock; `ConfigurationFault` says what is
        in the way and what to do about it."""
        self._check_name()
        try:
            for folder in FOLDERS:
                (self.root / folder).mkdir(parents=True, exist_ok=True)
            (self.root / "keys").chmod(0o700)
            self._check_room()
            self._take_lock()
            self.state_file.unlink(missing_ok=True)
            self._make_keyring(clock)
        except OSError as fault:
            self._let_go()
            raise _unusable(
                f"{fault.filename or self.root}: {fault.strerror}: make {self.root} a directory"
                " that can be written, or set STAGEDOOR_HOME to one"
            ) from None
        except ConfigurationFault:
            self._let_go()
            raise

    def _check_name(self) -> None:
        odd = sorted(set(str(self.root)) & set(_ODD))
        if odd:
            raise _unusable(
                f"{self.root}: {' '.join(odd)} would mean something else in a URL: set"
                " STAGEDOOR_HOME to a directory without"
            )

    def _check_room(self) -> None:
        room = os.statvfs(self.root)
        if room.f_bavail * room.f_frsize < self._minimum_free:
            raise _unusable(
                f"{self.root}: less than {self._minimum_free >> 20} MB are free: make room, or set"
                " STAGEDOOR_HOME to another disk"
            )
        probe = self.root / "run" / ".probe"
        probe.write_bytes(b"x")
        probe.unlink()

    def _take_lock(self) -> None:
        lock = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            running = self.read_state() or {}
            raise _unusable(
                f"{self.root}: a system is already running here (pid {running.get('pid', '?')},"
                f" gateway {running.get('gateway', '?')}): use that one, stop it with"
                " `stagedoor down`, or set STAGEDOOR_HOME to start another"
            ) from None
        self._lock = lock

    def _make_keyring(self, clock: Clock) -> None:
        if self.keyring_file.exists():
            Keyring.load(self.keyring_file)
            self.keyring_file.chmod(0o600)
            return
        replace_file(self.keyring_file, msgspec.json.encode(Keyring.fresh(clock)), mode=0o600)

    def write_state(self, state: Mapping[str, Any]) -> None:
        replace_file(self.state_file, json.dumps(state, indent=2).encode())

    def read_state(self) -> dict[str, Any] | None:
        """What the running system says of itself; None when there is none."""
        try:
            state = json.loads(self.state_file.read_bytes())
        except (OSError, ValueError):
            return None
        return state if isinstance(state, dict) else None

    def is_running(self) -> bool:
        """Whether a live system holds this directory; one that was killed holds nothing."""
        try:
            lock = os.open(self.lock_file, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    def close(self) -> None:
        self.state_file.unlink(missing_ok=True)
        self.control_socket.unlink(missing_ok=True)
        self._let_go()

    def _let_go(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _unusable(message: str) -> ConfigurationFault:
    return ConfigurationFault([message], what="the state directory")
