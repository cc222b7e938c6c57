"""Listens on sockets that we own: with our own protocol for an `Application`, else with uvicorn's.

uvicorn's own Server brings signal handlers and a timer that ticks ten times a second; the chassis
has its own life cycle, so only its httptools protocol is used, for the admin applications.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from chassis.clock import SYSTEM, Clock
from chassis.errors import ConfigurationFault
from chassis.http.inbound import Inbound
from chassis.http.messages import Application

KEEP_ALIVE_S = 75
UNIX_PATH_LIMIT = 107


def bind(host: str, port: int, *, backlog: int = 1024, reuse_port: bool = False) -> socket.socket:
    """A listening TCP socket; `ConfigurationFault` says which port is taken.

    On `::` it takes IPv4 connections as well, whatever the system's own default.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is named
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.bind((host, port))
        listening.listen(backlog)
    except (OSError, OverflowError) as fault:
        listening.close()
        why = fault.strerror if isinstance(fault, OSError) else "there is no such port"
        where = f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}"
        message = f"cannot listen on {where}: {why}; choose another port"
        raise ConfigurationFault([message], what="the listening address") from None
    listening.setblocking(False)
    return listening


def bind_unix(path: Path, *, mode: int = 0o600, backlog: int = 64) -> socket.socket:
    """A listening unix socket that only its owner may use, unless `mode` says otherwise.

    Replaces one left by a dead process; `ConfigurationFault` when somebody answers there, or when
    it is no socket.
    """
    if len(bytes(path)) > UNIX_PATH_LIMIT:
        message = f"{path} is longer than the {UNIX_PATH_LIMIT} bytes that a socket's path may have"
        raise ConfigurationFault([f"{message}; choose a shorter folder"], what="the socket")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        listening.bind(str(path))
        path.chmod(mode)
        listening.listen(backlog)
    except OSError as fault:
        listening.close()
        message = f"cannot listen on {path}: {fault.strerror}"
        raise ConfigurationFault([message], what="the socket") from None
    listening.setblocking(False)
    return listening


def taken_in(listening: socket.socket) -> Iterator[socket.socket]:
    """The connections that wait in its accept queue: to close it resets them."""
    with contextlib.suppress(OSError):
        while True:
            waiting, _ = listening.accept()
            waiting.setblocking(False)
            yield waiting


def stop_listening(listening: socket.socket) -> None:
    """Refuses connections from now on, also where another process holds the same socket."""
    with contextlib.suppress(OSError):
        listening.shutdown(socket.SHUT_RDWR)


def unix_remover(path: Path) -> Callable[[], None]:
    """Removes the socket that is at `path` now; one that took its place later is left alone."""
    made = path.stat().st_ino

    def remove() -> None:
        with contextlib.suppress(OSError):
            if path.stat().st_ino == made:
                path.unlink()

    return remove


def _remove_stale(path: Path) -> None:
    """Nobody can answer before `listen`, so between our `bind` and that another may take the place:
    two that start at the same instant are not told apart, all others are."""
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise OSError(errno.EEXIST, "a file that is no socket is in its place")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:
            pass  # its backlog is full: somebody is there
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise OSError(errno.EADDRINUSE, "somebody answers there; stop that one, or choose another path")


class Listener:
    """One application on one socket."""

    def __init__(self, app: Any, listening: socket.socket, clock: Clock = SYSTEM) -> None:
        self.side: Inbound | _Asgi = (
            Inbound(app, clock) if isinstance(app, Application) else _Asgi(app)
        )
        self._socket = listening
        self._server: asyncio.Server | None = None
        inet = listening.family != socket.AF_UNIX
        self.port: int = listening.getsockname()[1] if inet else 0

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self.side.protocol, sock=self._socket)

    async def drain(self, timeout_s: float, quiet_s: float = 0.0) -> None:
        """Stops accepting, serves who waited in the accept queue, closes connections that have been
        idle for `quiet_s`, lets requests under way finish, then closes what is left."""
        if self._server is None:
            self._socket.close()
            return
        loop = asyncio.get_running_loop()
        waiting = list(taken_in(self._socket))
        self._server.close()
        for connection in waiting:
            await loop.connect_accepted_socket(self.side.protocol, connection)
        self.side.stop(quiet_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.side.emptied()
        await self.side.cut()


class _Asgi:
    """All of uvicorn's connections to one ASGI application."""

    def __init__(self, app: Any) -> None:
        self._config = Config(
            app,
            http=HttpToolsProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        self._config.load()
        self._state = ServerState()
        self._left = asyncio.Event()

    def protocol(self) -> asyncio.Protocol:
        return _Protocol(self._config, self._state, self._left)

    def stop(self, quiet_s: float) -> None:
        """uvicorn's connections know no `quiet_s`."""
        for connection in list(self._state.connections):
            connection.shutdown()

    async def emptied(self) -> None:
        while self._state.connections:
            self._left.clear()
            await self._left.wait()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks)

    async def cut(self) -> None:
        tasks = list(self._state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in list(self._state.connections):
            connection.transport.abort()


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol; `left` is set whenever a connection has ended."""

    def __init__(self, config: Config, state: ServerState, left: asyncio.Event) -> None:
        super().__init__(config=config, server_state=state, app_state={})
        self._left = left

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._left.set()
