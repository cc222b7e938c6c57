"""Versions of the rules on disk: monotonic, content-hashed, and whole whatever happens.

A version is one file, `000012.json`, linked into place whole: it is there entirely or not at all,
and two processes never write the same one. Several workers that follow the same file agree on its
version, because a document that is already the newest keeps the version it has.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from chassis.clock import Clock
from chassis.disk.files import sync_folder
from chassis.errors import StoreUnavailable

KEPT = 20
_NAME = re.compile(r"(\d{6,})\.json\Z")


class Version(Struct, frozen=True):
    """One document that was good enough to serve. `at` is seconds since the epoch."""

    version: int
    content_hash: str
    at: float
    author: str
    why: str
    source: str


class History:
    """The versions under `folder`; the newest readable one is the last good."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock

    def versions(self) -> list[Version]:
        """Newest first; a file that is torn or tampered with is left out."""
        return list(self._readable())

    def latest(self) -> Version | None:
        return next(self._readable(), None)

    def get(self, version: int) -> Version | None:
        return _read(self._file(version))

    def record(self, source: bytes, *, author: str, why: str) -> Version:
        """The version of `source`: the newest one when it is the same, else one more, durable.

        Raises `StoreUnavailable` when the state directory cannot be written.
        """
        try:
            return self._record(source, author, why)
        except OSError as fault:
            raise StoreUnavailable(
                f"rules history {self._folder} cannot be written: {fault.strerror}"
            ) from fault

    def _record(self, source: bytes, author: str, why: str) -> Version:
        self._folder.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(source).hexdigest()
        while True:
            # Listed before looking: what another process adds in between is met in `_create`.
            number = max(self._numbers(), default=0) + 1
            newest = self.latest()
            if newest is not None and newest.content_hash == digest:
                return newest
            version = Version(number, digest, self._clock.now(), author, why, source.decode())
            if self._create(version):
                self._forget()
                return version

    def _create(self, version: Version) -> bool:
        """False when another process took the number first."""
        written = self._folder / f".{os.getpid()}-{self._clock.entropy(8).hex()}.tmp"
        try:
            with written.open("xb") as file:
                file.write(msgspec.json.encode(version))
                file.flush()
                os.fsync(file.fileno())
            os.link(written, self._file(version.version))
            sync_folder(self._folder)
        except FileExistsError:
            return False
        finally:
            with suppress(OSError):
                written.unlink()
        return True

    def _forget(self) -> None:
        for number in sorted(self._numbers(), reverse=True)[KEPT:]:
            with suppress(OSError):
                self._file(number).unlink()

    def _readable(self) -> Iterator[Version]:
        for number in sorted(self._numbers(), reverse=True):
            if (version := _read(self._file(number))) is not None:
                yield version

    def _numbers(self) -> list[int]:
        try:
            names = [file.name for file in self._folder.iterdir()]
        except OSError:
            return []
        return [int(found[1]) for name in names if (found := _NAME.match(name))]

    def _file(self, version: int) -> Path:
        return self._folder / f"{version:06d}.json"


def _read(file: Path) -> Version | None:
    try:
        version = msgspec.json.decode(file.read_bytes(), type=Version)
    except (OSError, msgspec.DecodeError):
        return None
    digest = hashlib.sha256(version.source.encode()).hexdigest()
    return version if digest == version.content_hash else None
