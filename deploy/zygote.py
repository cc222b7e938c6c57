"""The process that every other one is forked from.

`stagedoor up` becomes the zygote: it imports the shared libraries once, freezes them, and forks
the supervisor. From then on it only forks a child a request: a child starts in milliseconds and
shares that memory. It has no thread and no event loop, so forking is safe at any time, also for
restarts hours later. It speaks JSON lines over one socket: `spawn` in, `spawned` and `exited` out.
It ends when the supervisor does, and the kernel tells whatever still runs to stop.
"""

from __future__ import annotations

import contextlib
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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

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
EXIT_CONFIGURATION = 2
_PR_SET_PDEATHSIG = 1
_M_ARENA_MAX, _M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -8, -3, -1
_LARGE_BLOCK = 256 << 10


def lead(supervise: Callable[[socket.socket], None]) -> int:
    """Forks a child that runs `supervise(channel)`, serves its orders, and ends with its status.

    Ctrl-C is left to the supervisor, which drains; SIGTERM is passed on to it.
    """
    preload()
    ours, theirs = socket.socketpair()
    leader = os.fork()
    if leader == 0:
        ours.close()
        _exit_with(lambda: supervise(theirs))
    theirs.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: _pass_on(leader))
    return serve(ours, leader)


def preload() -> None:
    """Imports what all processes share, and keeps it out of every later garbage collection.

    glibc is told to keep one arena, and to give large blocks back when they are freed: one hash of
    a password would otherwise leave 19 MB behind for good.
    """
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_ARENA_MAX, 1)
    libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)
    libc.mallopt(_M_TRIM_THRESHOLD, _LARGE_BLOCK)
    for module in PRELOADED:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()


def serve(channel: socket.socket, leader: int | None = None) -> int:
    """Serves orders until the channel closes or the process `leader` ends; its exit status."""
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    buffered = b""
    while True:
        readable, _, _ = select.select([channel.fileno(), wake_read], [], [])
        if wake_read in readable:
            os.read(wake_read, 4096)
            for pid, status in _reap():
                if pid == leader:
                    return status if status >= 0 else 128 - status
                _tell(channel, {"exited": pid, "status": status})
        if channel.fileno() in readable:
            data = channel.recv(65536)
            if not data:
                return _wait(leader)
            *lines, buffered = (buffered + data).split(b"\n")
            for line in lines:
                _spawn(channel, json.loads(line))


def _wait(leader: int | None) -> int:
    """The status of the leader, which has closed its end and is about to go."""
    if leader is None:
        return 0
    try:
        _, status = os.waitpid(leader, 0)
    except ChildProcessError:
        return 1
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _pass_on(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(leader, signal.SIGTERM)


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
    def work() -> None:
        _detach(Path(order["output"]))
        os.environ.update(order["environ"])
        _run(importlib.import_module(order["module"]), order["name"])

    _exit_with(work)


def _exit_with(work: Callable[[], None]) -> NoReturn:
    """Runs `work` in a fresh child and ends the process, whatever happens."""
    status = 1
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        work()
        status = 0
    except BaseException as fault:
        status = _report(fault)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _run(module: Any, name: str) -> None:
    from chassis.service import run

    if hasattr(module, "run_process"):
        module.run_process(os.environ)
    else:
        run(name, module.build, os.environ)


def _detach(output: Path) -> None:
    """An own session, default signals, and output into a file."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    output.parent.mkdir(parents=True, exist_ok=True)
    written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    os.dup2(written, 1)
    os.dup2(written, 2)
    os.close(written)


def _report(fault: BaseException) -> int:
    from chassis.errors import ConfigurationFault, StagedoorError

    if isinstance(fault, SystemExit):
        return fault.code if isinstance(fault.code, int) else 1
    if isinstance(fault, StagedoorError):
        sys.stderr.write(f"stagedoor: {fault}\n")
        return EXIT_CONFIGURATION if isinstance(fault, ConfigurationFault) else 1
    if isinstance(fault, KeyboardInterrupt):
        return 130
    traceback.print_exception(fault)
    return 1


def _tell(channel: socket.socket, message: Mapping[str, Any]) -> None:
    channel.sendall(json.dumps(message).encode() + b"\n")
