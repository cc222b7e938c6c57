"""The process that every other one is forked from.

It imports the shared libraries once, freezes them, and forks a child a request: a child starts in
milliseconds and shares that memory. It has no thread and no event loop, so forking is safe at any
time, also for restarts hours later. It speaks JSON lines over one socket: `spawn` in, `spawned` and
`exited` out. When the supervisor goes, so does it, and the kernel tells its children to stop.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deploy.processes import fleet

PRELOADED = (
    "asyncio",
    "uvloop",
    "uvicorn.protocols.http.httptools_impl",
    "sqlite3",
    "encodings.idna",
    "chassis.service",
    "chassis.discovery.consul",
    "chassis.events.embedded",
    "chassis.events.spool",
    "chassis.storage.sqlite",
    *(spec.module for spec in fleet({})),
)
EXIT_CONFIGURATION = 78
_PR_SET_PDEATHSIG = 1


def main(channel_fd: int) -> None:
    """Serves spawn requests on the socket `channel_fd` until it closes."""
    os.setsid()
    channel = socket.socket(fileno=channel_fd)
    for module in PRELOADED:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _tell(channel, {"ready": os.getpid()})
    _serve(channel, wake_read)


def _serve(channel: socket.socket, wake_read: int) -> None:
    buffered = b""
    while True:
        readable, _, _ = select.select([channel.fileno(), wake_read], [], [])
        if wake_read in readable:
            os.read(wake_read, 4096)
            for pid, status in _reap():
                _tell(channel, {"exited": pid, "status": status})
        if channel.fileno() in readable:
            data = channel.recv(65536)
            if not data:
                return
            *lines, buffered = (buffered + data).split(b"\n")
            for line in lines:
                _spawn(channel, json.loads(line))


def _reap() -> Iterator[tuple[int, int]]:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, os.waitstatus_to_exitcode(status)


def _spawn(channel: socket.socket, order: Mapping[str, Any]) -> None:
    pid = os.fork()
    if pid == 0:
        channel.close()
        _child(order)
    _tell(channel, {"spawned": order["id"], "pid": pid})


def _child(order: Mapping[str, Any]) -> None:
    status = 1
    try:
        _detach(Path(order["output"]))
        os.environ.update(order["environ"])
        _run(importlib.import_module(order["module"]), order["name"])
        status = 0
    except BaseException as fault:
        status = _report(fault)
    finally:
        sys.stderr.flush()
        os._exit(status)


def _run(module: Any, name: str) -> None:
    from chassis.service import run

    if hasattr(module, "run_process"):
        module.run_process(os.environ)
    else:
        run(name, module.build, os.environ)


def _detach(output: Path) -> None:
    """An own session, a death signal, default signals, and output into a file."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    output.parent.mkdir(parents=True, exist_ok=True)
    written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    os.dup2(written, 1)
    os.dup2(written, 2)
    os.close(written)


def _report(fault: BaseException) -> int:
    from chassis.errors import ConfigurationFault

    if isinstance(fault, SystemExit):
        return fault.code if isinstance(fault.code, int) else 1
    if isinstance(fault, ConfigurationFault):
        sys.stderr.write(f"{fault}\n")
        return EXIT_CONFIGURATION
    traceback.print_exception(fault)
    return 1


def _tell(channel: socket.socket, message: Mapping[str, Any]) -> None:
    channel.sendall(json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
