"""A zygote without the system around it, and small processes for it to fork."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHILD = "tests.support.child"
_SERVE = """\
import socket, sys
from deploy.zygote import serve
sys.exit(serve(socket.socket(fileno=int(sys.argv[1])), end_s=float(sys.argv[2])))
"""


@asynccontextmanager
async def zygote(
    end_s: float = 10.0,
) -> AsyncIterator[tuple[asyncio.subprocess.Process, socket.socket]]:
    """The process and our end of its channel; killed on leaving if it still runs."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _SERVE,
            str(theirs.fileno()),
            str(end_s),
            pass_fds=[theirs.fileno()],
            cwd=ROOT,
        )
    try:
        yield process, ours
    finally:
        ours.close()
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()


def alive(pid: int) -> bool:
    """Whether the process runs; one that only waits to be waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


def marked(folder: Path, what: str) -> list[str]:
    """The instances that have noted `what`, in their order."""
    try:
        return (folder / what).read_text(encoding="utf-8").split()
    except OSError:
        return []


def environ(folder: Path, instance: str, fate: str) -> dict[str, str]:
    return {
        "MARKS": str(folder),
        "FATE": fate,
        "STAGEDOOR_INSTANCE": instance,
        "PYTHONUNBUFFERED": "1",
        "PATH": os.environ["PATH"],
    }
