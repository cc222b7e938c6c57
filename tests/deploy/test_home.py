"""The state directory: what is checked before anything starts in it, and what survives a crash."""

from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chassis.clock import ManualClock
from chassis.errors import ConfigurationFault
from chassis.identity import Keyring
from deploy.home import FOLDERS, Home
from tests.support.disks import read_only

CLOCK = ManualClock()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "home")
    yield home
    home.close()


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


def test_it_makes_everything_that_is_needed(home: Home) -> None:
    home.prepare(CLOCK)
    assert {one.name for one in home.root.iterdir() if one.is_dir()} == set(FOLDERS)
    assert Keyring.load(home.keyring_file).secrets


def test_a_relative_home_stays_the_same_wherever_one_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    home = Home(Path("var"))
    monkeypatch.chdir("/")
    assert home.root == tmp_path / "var"


# --- one system at a time


def test_a_second_system_is_told_of_the_first(home: Home) -> None:
    home.prepare(CLOCK)
    home.write_state({"pid": 42, "gateway": "http://127.0.0.1:8080"})
    with pytest.raises(ConfigurationFault, match=r"pid 42.*http://127.0.0.1:8080.*down") as fault:
        Home(home.root).prepare(CLOCK)
    assert "STAGEDOOR_HOME" in str(fault.value)
    assert home.read_state() is not None


def test_when_it_is_closed_another_may_begin(home: Home) -> None:
    home.prepare(CLOCK)
    home.close()
    again = Home(home.root)
    again.prepare(CLOCK)
    again.close()


def test_the_lock_ends_with_the_process_that_held_it(home: Home) -> None:
    holds = (
        "import os, sys; from pathlib import Path; from chassis.clock import SYSTEM;"
        "from deploy.home import Home; home = Home(Path(sys.argv[1])); home.prepare(SYSTEM);"
        "home.write_state({'pid': os.getpid()}); os._exit(9)"
    )
    done = subprocess.run([sys.executable, "-c", holds, home.root], check=False)
    assert done.returncode == 9 and home.read_state() is not None
    home.prepare(CLOCK)
    assert home.read_state() is None


def test_it_is_running_while_somebody_holds_it_whatever_was_left_there(home: Home) -> None:
    assert not Home(home.root).is_running()
    home.prepare(CLOCK)
    assert Home(home.root).is_running()
    home.close()
    home.write_state({"pid": 1, "gateway": "http://127.0.0.1:8080"})
    assert not Home(home.root).is_running()


@pytest.mark.parametrize("name", ["what?", "a#b", "50%20off"])
def test_a_name_that_a_url_would_read_otherwise_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationFault, match="STAGEDOOR_HOME"):
        Home(tmp_path / name).prepare(CLOCK)
    assert not (tmp_path / name).exists()


def test_a_refused_home_is_not_held(home: Home) -> None:
    home.prepare(CLOCK)
    home.close()
    home.keyring_file.write_text("{}")
    with pytest.raises(ConfigurationFault, match="keyring"):
        home.prepare(CLOCK)
    home.keyring_file.unlink()
    Home(home.root).prepare(CLOCK)


# --- what cannot be used


def test_a_directory_that_cannot_be_written_is_said_to_be_so(tmp_path: Path) -> None:
    with (
        read_only(tmp_path / "home"),
        pytest.raises(ConfigurationFault, match="STAGEDOOR_HOME") as fault,
    ):
        Home(tmp_path / "home").prepare(CLOCK)
    assert str(tmp_path / "home") in str(fault.value)


@pytest.mark.parametrize("where", ["home", "home/data", "home/run/lock/x", "home/keys"])
def test_a_file_in_the_way_is_named(tmp_path: Path, where: str) -> None:
    file = tmp_path / where.removesuffix("/x")
    if where.endswith("/x"):
        file.mkdir(parents=True)
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    with pytest.raises(ConfigurationFault, match="writ") as fault:
        Home(tmp_path / "home").prepare(CLOCK)
    assert str(file) in str(fault.value)


def test_a_disk_without_room_is_said_to_be_full(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationFault, match="MB are free"):
        Home(tmp_path / "home", minimum_free=1 << 60).prepare(CLOCK)


# --- the keyring


def test_the_keyring_and_its_folder_are_its_owners_alone(home: Home) -> None:
    home.prepare(CLOCK)
    assert mode(home.keyring_file) == 0o600
    assert mode(home.keyring_file.parent) == 0o700


def test_a_keyring_is_kept_and_closed_again_to_others(home: Home) -> None:
    home.prepare(CLOCK)
    content = home.keyring_file.read_bytes()
    home.keyring_file.chmod(0o644)
    home.close()
    home.prepare(ManualClock(seed=1))
    assert home.keyring_file.read_bytes() == content
    assert mode(home.keyring_file) == 0o600


def test_a_crash_before_the_rename_leaves_no_half_keyring(home: Home) -> None:
    """What is left of it is neither believed nor in the way, however open it lies there."""
    home.prepare(CLOCK)
    home.close()
    home.keyring_file.unlink()
    part = home.keyring_file.with_name("inside.json.part")
    part.write_text('{"active": "k1", "sec')
    part.chmod(0o666)
    home.prepare(CLOCK)
    assert Keyring.load(home.keyring_file).secrets
    assert mode(home.keyring_file) == 0o600
    assert not part.exists()


# --- files


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_a_state_that_cannot_be_read_is_none(home: Home, content: bytes) -> None:
    home.prepare(CLOCK)
    assert home.read_state() is None
    home.state_file.write_bytes(content)
    assert home.read_state() is None


def test_closing_takes_away_what_says_that_it_runs(home: Home) -> None:
    home.prepare(CLOCK)
    home.write_state({"pid": 1})
    home.control_socket.touch()
    home.close()
    assert not home.state_file.exists() and not home.control_socket.exists()
