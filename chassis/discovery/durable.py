"""Records that outlive the process: one file each, fsynced and renamed into place.

Writes happen on the calling thread: they are rare and small, and nothing can come between a
comparison and the write that follows from it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from chassis.disk.files import PART, replace_file, sync_folder
from chassis.errors import StoreUnavailable

R = TypeVar("R", bound=msgspec.Struct)


class Folder(Generic[R]):
    """The records of one kind under `directory`; None keeps nothing."""

    def __init__(self, directory: Path | None, kind: type[R], suffix: str) -> None:
        self._directory = directory
        self._kind = kind
        self._suffix = suffix

    def load(self) -> list[R]:
        """Every record; `StoreUnavailable` names the file that cannot be read."""
        directory = self._directory
        if directory is None:
            return []
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for draft in directory.glob(f"*{PART}"):
                draft.unlink()
            return [self._decoded(file) for file in directory.glob(f"*{self._suffix}")]
        except OSError as fault:
            raise StoreUnavailable(f"the registry's state cannot be read: {fault}") from fault

    def write(self, name: str, record: R) -> None:
        """Durable when it returns; raises OSError with the old record still in place."""
        if self._directory is not None:
            replace_file(self._file(self._directory, name), msgspec.msgpack.encode(record))

    def remove(self, names: Iterable[str]) -> None:
        """Durable when it returns. Raises OSError."""
        if self._directory is None:
            return
        for name in names:
            self._file(self._directory, name).unlink(missing_ok=True)
        sync_folder(self._directory)

    def _decoded(self, file: Path) -> R:
        try:
            return msgspec.msgpack.decode(file.read_bytes(), type=self._kind)
        except msgspec.DecodeError as fault:
            raise StoreUnavailable(f"{file} is damaged ({fault}); move it away to go on") from fault

    def _file(self, directory: Path, name: str) -> Path:
        """Names are longer and wilder than file names may be, so the file's is a digest."""
        return directory / (hashlib.sha256(name.encode()).hexdigest() + self._suffix)
