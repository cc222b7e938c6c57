"""What the tests of the launcher and of whoever calls it share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.servers import processes


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Whatever a test leaves running in this directory is killed, and fails the test."""
    folder = tmp_path / "home"
    yield folder
    left = list(processes.marked(folder))
    for one in left:
        os.kill(one.pid, signal.SIGKILL)
    assert left == []
