"""Scripted programs in the place of build tools and servers, and servers of a test's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.servers import Servers, default_cache
from tests.support import real

Script = Callable[[str, str], Path]
NEVER_READY = '[ "$1" = --version ] && echo v=7.0 && exit; exec sleep 1000'


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """`script(name, lines)` puts a shell script of that name before everything on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.delenv("JAVA_HOME", raising=False)

    def write(name: str, lines: str) -> Path:
        file = folder / name
        file.write_text(f"#!/bin/sh\n{lines}\n", encoding="utf-8")
        file.chmod(0o755)
        return file

    return write


@pytest.fixture
def bare_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing on it but what a test puts into this folder."""
    folder = tmp_path / "bare"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return folder


@pytest.fixture
async def servers(home: Path) -> Servers:
    return Servers(home, default_cache(os.environ))


@pytest.fixture
def redis(home: Path) -> Iterator[real.RealServer]:
    started = real.own("redis", home)
    yield started
    started.stop()
