from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from chassis.disk.files import FolderLock, make_folder, path_of, replace_file, unavailable
from chassis.errors import ConfigurationFault, StoreUnavailable
from tests.support.disks import file_size_limit


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EFBIG])
def test_a_disk_fault_names_the_path_and_what_to_do(number: int) -> None:
    fault = unavailable(OSError(number, os.strerror(number)), Path("/var/x"))
    assert str(fault).startswith("/var/x: ")
    assert any(verb in str(fault) for verb in ("free", "remount", "change", "raise"))


def test_an_unknown_fault_keeps_the_systems_words() -> None:
    assert "Interrupted" in str(unavailable(OSError(errno.EINTR, "Interrupted"), "/x"))


def test_folders_are_made_with_their_parents_and_again(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b" / "c"
    make_folder(folder)
    make_folder(folder)
    assert folder.is_dir()


def test_a_file_is_replaced_whole_whatever_a_crash_has_left(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    replace_file(file, b"old")
    (tmp_path / "keys.json.part").write_bytes(b"ha")
    replace_file(file, b"new", mode=0o600)
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (b"new", 0o600)
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_cannot_be_replaced_stays_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "targets.json"
    replace_file(file, b"old")
    (tmp_path / "targets.json.part").mkdir()
    with pytest.raises(OSError, match=r"targets\.json\.part"):
        replace_file(file, b"new")
    assert file.read_bytes() == b"old"


def test_nothing_is_left_of_a_file_that_the_disk_does_not_take(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    replace_file(file, b"old")
    with file_size_limit(100), pytest.raises(OSError, match="too large"):
        replace_file(file, b"x" * 1000)
    assert file.read_bytes() == b"old" and list(tmp_path.iterdir()) == [file]


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(StoreUnavailable, match="move it away"):
        make_folder(tmp_path / "a" / "b")


def test_a_url_gives_its_path_unquoted() -> None:
    assert path_of("log:///var/my%20log", what="x", example="y") == Path("/var/my log")


@pytest.mark.parametrize("url", ["log://var/x", "log:///x?y=1", "log:///x#y", "log:///", "log:x"])
def test_a_url_that_is_no_plain_path_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationFault, match="as in log:///a"):
        path_of(url, what="the log URL", example="log:///a")


def test_a_lock_is_held_until_released(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path, what="the spool")
    with pytest.raises(ConfigurationFault, match=f"in use by process {os.getpid()}"):
        FolderLock(tmp_path, what="the spool")
    lock.release()
    lock.release()
    FolderLock(tmp_path, what="the spool").release()
