"""Listens with uvicorn's httptools protocol on sockets that we own.

uvicorn's own Server brings signal handlers and a timer that ticks ten times a second; the chassis
has its own life cycle, so only the protocol is used.
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from chassis.errors import ConfigurationFault

KEEP_ALIVE_S = 75
_POLL_S = 0.01


def bind(host: str, port: int, *, backlog: int = 1024, reuse_port: bool = False) -> socket.socket:
    """A listening TCP socket; `ConfigurationFault` says which port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind((host, port))
        listening.listen(backlog)
    except OSError as fault:
        listening.close()
        message = f"cannot listen on {host}:{port}: {fault.strerror}; choose another port"
        raise ConfigurationFault([message], what="the listening address") from None
    listening.setblocking(False)
    return listening


def bind_unix(path: Path) -> socket.socket:
    """A listening unix socket that only its owner may use; replaces one left by a dead process."""
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(path))
    path.chmod(0o600)
    listening.listen(64)
    listening.setblocking(False)
    return listening


class Listener:
    """One ASGI application on one socket."""

    def __init__(self, app: Any, listening: socket.socket) -> None:
        self._config = Config(
            app,
            http=HttpToolsProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        self._socket = listening
        self._state = ServerState()
        self._server: asyncio.Server | None = None
        inet = listening.family != socket.AF_UNIX
        self.port: int = listening.getsockname()[1] if inet else 0

    async def start(self) -> None:
        self._config.load()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._protocol, sock=self._socket)

    def _protocol(self) -> asyncio.Protocol:
        return HttpToolsProtocol(config=self._config, server_state=self._state, app_state={})

    async def drain(self, timeout_s: float) -> None:
        """Stops accepting, lets requests under way finish, then closes what is left."""
        if self._server is None:
            self._socket.close()
            return
        self._server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        waited = 0.0
        while (self._state.connections or self._state.tasks) and waited < timeout_s:
            await asyncio.sleep(_POLL_S)
            waited += _POLL_S
        for task in list(self._state.tasks):
            task.cancel()
