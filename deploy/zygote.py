"""The process that every other one is forked from.

`stagedoor up` becomes the zygote: it imports the shared libraries once, freezes them, and forks
the supervisor. From then on it only forks a child a request: a child starts in milliseconds and
shares that memory. It has no thread and no event loop, so forking is safe at any time, also for
restarts hours later. It speaks JSON lines over one socket: `spawn` in, `spawned` and `exited` out.
It ends when the supervisor does, however that is, after ending whatever still runs; when it is
killed itself, the kernel tells the others to stop.
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

from chassis.clock import SYSTEM
from chassis.errors import ConfigurationFault, SchemaFault, StagedoorError
from deploy.processes import fleet, run
from deploy.rehearsal import rehearse
from deploy.sockets import HeldSockets
from deploy.updated import outgrown

PRELOADED = (
    "asyncio",
    "uvloop",
    "uvicorn.protocols.http.httptools_impl",
    "sqlite3",
    "encodings.idna",
    "cryptography.hazmat.backends.openssl.backend",
    "chassis.service",
    "chassis.discovery.consul",
    "chassis.events.embedded",
    "chassis.events.spool",
    "chassis.storage.sqlite",
    *(spec.module for spec in fleet({})),
)
EXIT_CONFIGURATION = 2
END_S = 10.0
_PR_SET_PDEATHSIG = 1
_M_ARENA_MAX, _M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -8, -3, -1
_LARGE_BLOCK = 256 << 10


def lead(supervise: Callable[[socket.socket], None]) -> int:
    """Forks a child that runs `supervise(channel)`, serves its orders, and ends with its status.

    Ctrl-C, and the end of the terminal, are left to the supervisor, which drains; SIGTERM is passed
    on to it.
    """
    preload()
    ours, theirs = socket.socketpair()
    zygote, leader = os.getpid(), os.fork()
    if leader == 0:
        ours.close()
        _exit_with(zygote, lambda: supervise(theirs))
    theirs.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: _pass_on(leader))
    return serve(ours, leader)


def preload() -> None:
    """Imports and rehearses what all processes share, and keeps it out of every later garbage
    collection.

    glibc is told to keep one arena, and to give large blocks back when they are freed: one hash of
    a password would otherwise leave 19 MB behind for good.
    """
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_ARENA_MAX, 1)
    libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)
    libc.mallopt(_M_TRIM_THRESHOLD, _LARGE_BLOCK)
    for module in PRELOADED:
        importlib.import_module(module)
    rehearse()
    gc.collect()
    gc.freeze()


def serve(channel: socket.socket, leader: int | None = None, *, end_s: float = END_S) -> int:
    """Serves orders until the process `leader` ends, or the channel is closed and it is going to;
    ends what still runs, by force after `end_s`; the leader's exit status."""
    forker = Forker(channel, leader)
    forker.serve()
    forker.end(end_s)
    return _shown(forker.status if leader is None or forker.status is not None else _wait(leader))


def _shown(status: int | None) -> int:
    """An exit status as shells show it, also one by a signal."""
    return 128 - status if status is not None and status < 0 else status or 0


def _wait(leader: int) -> int:
    """The status of the leader, which has closed its end and is about to go."""
    _, status = os.waitpid(leader, 0)
    return os.waitstatus_to_exitcode(status)


def _pass_on(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(leader, signal.SIGTERM)


class Forker:
    """The loop of the zygote. A signal wakes it through a pipe. `status` is the leader's, once it
    has ended."""

    def __init__(self, channel: socket.socket, leader: int | None) -> None:
        self._channel = channel
        self._leader = leader
        self._children: set[int] = set()
        self._sockets = HeldSockets()
        self.status: int | None = None
        self._began = SYSTEM.now()
        self._wake, self._waking = os.pipe()
        os.set_blocking(self._waking, False)
        signal.set_wakeup_fd(self._waking, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)

    def serve(self) -> None:
        """Until the leader is gone or wants nothing more."""
        buffered, channel = b"", self._channel.fileno()
        with contextlib.suppress(ConnectionError):
            while self.status is None:
                readable = self._wait(None, channel)
                for pid, status in self._reap():
                    self._tell({"exited": pid, "status": status})
                if channel not in readable:
                    continue
                data = self._channel.recv(65536)
                if not data:
                    return
                *lines, buffered = (buffered + data).split(b"\n")
                for line in lines:
                    self._spawn(json.loads(line))

    def end(self, end_s: float) -> None:
        """SIGTERM to every child, and SIGKILL to what does not end in time."""
        self._signal(signal.SIGTERM)
        give_up = SYSTEM.monotonic() + end_s
        while self._children and (left := give_up - SYSTEM.monotonic()) > 0:
            self._wait(left)
            list(self._reap())
        self._signal(signal.SIGKILL)

    def _wait(self, seconds: float | None, *also: int) -> list[int]:
        """Until a signal, or something to read from `also`, or for so long; what can be read."""
        readable, _, _ = select.select([self._wake, *also], [], [], seconds)
        if self._wake in readable:
            os.read(self._wake, 4096)
        return readable

    def _reap(self) -> Iterator[tuple[int, int]]:
        """The children that have ended since; the leader's status is only kept."""
        while self._children or self._leader is not None:
            pid, waited = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            status = os.waitstatus_to_exitcode(waited)
            if pid == self._leader:
                self._leader, self.status = None, status
            else:
                self._children.discard(pid)
                self._sockets.gone(pid)
                yield pid, status

    def _signal(self, number: int) -> None:
        """To every child that has not been waited for: until then its pid is nobody else's."""
        for pid in self._children:
            os.kill(pid, number)

    def _spawn(self, order: Mapping[str, Any]) -> None:
        instance, places = order["environ"].get("STAGEDOOR_INSTANCE", ""), order.get("hold", ())
        if places:
            order["environ"]["STAGEDOOR_SOCKETS"] = self._sockets.of(instance, places)
        zygote, pid = os.getpid(), os.fork()
        if pid == 0:
            self._let_go()
            self._sockets.keep_only(instance)
            _child(zygote, order, self._began)
        self._children.add(pid)
        if places:
            self._sockets.used(instance, pid)
        self._tell({"spawned": order["id"], "pid": pid})

    def _let_go(self) -> None:
        """In a child: nothing of the zygote's stays open."""
        self._channel.close()
        signal.set_wakeup_fd(-1)
        os.close(self._wake)
        os.close(self._waking)

    def _tell(self, message: Mapping[str, Any]) -> None:
        self._channel.sendall(json.dumps(message).encode() + b"\n")


def _child(zygote: int, order: Mapping[str, Any], began: float) -> NoReturn:
    def work() -> None:
        _detach(Path(order["output"]))
        os.environ.update(order["environ"])
        try:
            run(order["module"], order["name"])
        except Exception as fault:
            if not isinstance(fault, StagedoorError) and (told := outgrown(fault, began)):
                traceback.print_exception(fault)
                raise told from None
            raise

    _exit_with(zygote, work)


def _exit_with(zygote: int, work: Callable[[], None]) -> NoReturn:
    """Runs `work` in a fresh child of `zygote` and ends the process, whatever happens."""
    status = 1
    try:
        status = _status_of(zygote, work)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _status_of(zygote: int, work: Callable[[], None]) -> int:
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != zygote:
            raise SystemExit("the zygote was gone before this process began")
        work()
    except BaseException as fault:
        return _report(fault)
    return 0


def _detach(output: Path) -> None:
    """An own session, default signals, and output into a file."""
    os.setsid()
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    output.parent.mkdir(parents=True, exist_ok=True)
    written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    os.dup2(written, 1)
    os.dup2(written, 2)
    os.close(written)


def _report(fault: BaseException) -> int:
    if isinstance(fault, SystemExit):
        return _asked_for(fault.code)
    if isinstance(fault, StagedoorError):
        sys.stderr.write(f"stagedoor: {fault}\n")
        hopeless = isinstance(fault, ConfigurationFault | SchemaFault)
        return EXIT_CONFIGURATION if hopeless else 1
    if isinstance(fault, KeyboardInterrupt):
        return 130
    traceback.print_exception(fault)
    return 1


def _asked_for(code: object) -> int:
    """The status that Python gives `SystemExit(code)`: text is printed and means 1."""
    if code is None or isinstance(code, int):
        return code or 0
    sys.stderr.write(f"{code}\n")
    return 1
