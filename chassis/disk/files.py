"""Files that survive: replaced whole, fsynced, locked, and disk faults in plain words."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from chassis.errors import ConfigurationFault, StoreUnavailable

PART = ".part"
"""Behind the name of a file that is being written."""

_WHAT_TO_DO = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "the disk quota is used up: free some space or raise it",
    errno.EFBIG: "the file may not grow further: raise the file size limit (ulimit -f)",
    errno.EROFS: "the file system is mounted read-only: remount it or choose another folder",
    errno.EACCES: "permission denied: change the owner or mode, or choose another folder",
    errno.EPERM: "not permitted: change the owner or mode, or choose another folder",
    errno.ENOENT: "there is no such file or folder: it was removed, or never made",
    errno.ENOTDIR: "a file stands where a folder is needed: move it away",
    errno.EIO: "the disk reports an error: check it before going on",
    errno.EMFILE: "too many open files: raise the limit (ulimit -n)",
}


def unavailable(fault: OSError, path: Path | str) -> StoreUnavailable:
    """The failure that says which file, why, and what to do."""
    advice = _WHAT_TO_DO.get(fault.errno or 0, fault.strerror or str(fault))
    return StoreUnavailable(f"{path}: {advice}")


def path_of(url: str, *, what: str, example: str) -> Path:
    """The absolute path in a URL without a host; `ConfigurationFault` shows how to write one."""
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.netloc or parts.query or parts.fragment or not path.startswith("/") or path == "/":
        raise ConfigurationFault(
            [f"{url!r}: three slashes and an absolute path, as in {example}"], what=what
        )
    return Path(path)


def make_folder(folder: Path) -> None:
    """Makes `folder` and its parents, durably; `StoreUnavailable` when that cannot be."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in missing:
            sync_folder(path.parent)
    except OSError as fault:
        raise unavailable(fault, folder) from fault


def replace_file(file: Path, content: bytes, *, mode: int = 0o640) -> None:
    """Replaces `file` whole and durably, or leaves it as it was; one writer at a time. What a
    crash left of an earlier try is neither believed nor in the way. Raises OSError."""
    part = file.with_name(file.name + PART)
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(file)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in `folder` durable."""
    sync_file(folder, os.O_RDONLY | os.O_DIRECTORY)


def sync_file(path: Path, flags: int = os.O_RDONLY) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Waits until no other process, nor any other thread, is in this block for `folder`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class FolderLock:
    """Holds a folder for this process; the kernel lets go of it however the process ends."""

    def __init__(self, folder: Path, *, what: str) -> None:
        path = folder / "owner"
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as fault:
            raise unavailable(fault, path) from fault
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as fault:
            owner = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise ConfigurationFault(
                [f"{folder} is in use by process {owner}: give each process a folder of its own"],
                what=what,
            ) from fault
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
