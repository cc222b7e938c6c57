"""Small, full and read-only disks, made with real limits of the operating system."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.needs import missing

_NOBODY = 65534


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file of this process grows beyond `size` bytes: writes fail with EFBIG."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A disk of `size` bytes at `folder`; skips the test where one may not be mounted, and fails it
    with CI=true."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    if mounted.returncode:
        missing(f"needs the right to mount a tmpfs: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """An empty folder that this process cannot write: a file system of its own where one may be
    mounted, else one that belongs to another user, who is not root."""
    folder.mkdir()
    mounted = _mount("-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)).returncode == 0
    before = os.geteuid()
    if not mounted:
        folder.chmod(0o500)
        os.seteuid(before or _NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)
        if mounted:
            subprocess.run(["umount", folder], check=True)


def remount_read_only(folder: Path) -> None:
    _mount("-o", "remount,ro", str(folder)).check_returncode()


def _mount(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["mount", *arguments], capture_output=True, check=False)
