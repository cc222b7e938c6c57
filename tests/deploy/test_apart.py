"""Systems of different state directories have different prefixes."""

from __future__ import annotations

from pathlib import Path

import pytest

from chassis.discovery.address import address_of
from deploy.apart import apart

URL = "consul://127.0.0.1:8500"


def test_two_directories_never_meet_and_one_always_meets_itself(tmp_path: Path) -> None:
    first, second = apart(URL, tmp_path / "a"), apart(URL, tmp_path / "b")
    assert address_of(first).prefix != address_of(second).prefix
    assert first == apart(URL, tmp_path / "b" / ".." / "a")
    assert address_of(first).prefix.startswith("stagedoor-")


def test_it_is_the_same_directory_by_another_name(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert apart(URL, tmp_path / "link") == apart(URL, tmp_path / "a")


@pytest.mark.parametrize("url", ["", f"{URL}?prefix=ours", f"{URL}?prefix="])
def test_what_is_said_stays(tmp_path: Path, url: str) -> None:
    assert apart(url, tmp_path) == url


def test_what_else_is_said_is_kept(tmp_path: Path) -> None:
    assert "?dc=a&prefix=stagedoor-" in apart(f"{URL}?dc=a", tmp_path)
