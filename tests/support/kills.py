"""Starts a disk writer, kills it with SIGKILL after so many acknowledgements."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType


class Writer:
    """A running `tests.support.disk_writers` process."""

    def __init__(self, kind: str, folder: Path, first: int = 0) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.disk_writers", kind, str(folder), str(first)],
            stdout=subprocess.PIPE,
            text=True,
        )
        self._acknowledged: list[int] = []

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def wait_for(self, lines: int) -> None:
        """Reads until that many acknowledgements came."""
        assert self.process.stdout is not None
        for _ in range(lines):
            line = self.process.stdout.readline()
            assert line.endswith("\n"), f"the writer ended with {self.process.wait()}"
            self._take(line)

    def kill(self) -> list[int]:
        """Every number acknowledged before the end."""
        self.process.send_signal(signal.SIGKILL)
        rest, _ = self.process.communicate()
        for line in rest.splitlines(keepends=True):
            if line.endswith("\n"):
                self._take(line)
        return self._acknowledged

    def _take(self, line: str) -> None:
        self._acknowledged += map(int, line.split())
