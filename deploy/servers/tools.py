"""Runs a build tool to its end; what it prints is told line by line, with addresses masked."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from chassis.errors import StagedoorError
from deploy.servers.masking import masked

Tell = Callable[[str], None]
KEPT_LINES = 12
ANSWER_S = 20.0
"""How long a program may take to tell its version."""
_NO_NETWORK = (
    "unknown host",
    "no such host",
    "name resolution",
    "network is unreachable",
    "connection refused",
    "connect timed out",
    "i/o timeout",
    "no route to host",
)


class ToolFailed(StagedoorError):
    """A tool that installs or prepares a server is missing or failed; says what to do."""

    code = "tool_failed"


def require(tool: str, *, why: str, package: str) -> str:
    """The path of a tool; `ToolFailed` names the Debian package that has it."""
    found = shutil.which(tool)
    if found is None:
        raise ToolFailed(
            f"{why} needs `{tool}`, which is not on the PATH: install it"
            f" (on Debian: apt-get install {package})"
        )
    return found


def asked(*arguments: str) -> str:
    """All that a program prints that only tells something, such as its version; blocks until then.
    `ToolFailed` when it does not end in `ANSWER_S`, or cannot be run."""
    try:
        done = subprocess.run(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=ANSWER_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        why = f"has not ended in {ANSWER_S:g} s"
    except OSError as fault:
        why = f"cannot be run: {fault.strerror}"
    else:
        return done.stdout.decode(errors="replace")
    raise ToolFailed(f"`{' '.join(arguments)}` {why}: try it by hand")


async def run(
    arguments: Sequence[str | Path],
    tell: Tell,
    *,
    what: str,
    cwd: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> None:
    """Runs a tool in a session of its own, so that it and its children end with this call.

    `ToolFailed` carries the last lines.
    """
    process = await asyncio.create_subprocess_exec(
        *arguments,
        cwd=cwd,
        env={**os.environ, **(environ or {})},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    last: deque[str] = deque(maxlen=KEPT_LINES)
    try:
        async for line in process.stdout:
            text = masked(line.decode(errors="replace").rstrip())
            if text:
                last.append(text)
                tell(text)
        status = await process.wait()
    finally:
        await _end(process)
    if status:
        raise ToolFailed(_failure(Path(arguments[0]).name, status, what, list(last)))


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
        await asyncio.shield(process.wait())


def _failure(tool: str, status: int, what: str, last: list[str]) -> str:
    lines = "".join(f"\n    {line}" for line in last)
    text = " ".join(last).lower()
    offline = any(sign in text for sign in _NO_NETWORK)
    do = "connect to the network and try again; nothing was left half-done" if offline else ""
    return f"{what}: {tool} ended with status {status}; it said:{lines}" + (do and f"\n  {do}")
