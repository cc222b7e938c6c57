"""The real servers for tests: each started once a session, when a test first asks for it.

`STAGEDOOR_TEST_KAFKA=kafka://…` (and CASSANDRA, S3, CONSUL, REDIS) names one that runs already.
Otherwise the launcher starts its own, on free ports, in a temporary directory, and stops it when
the session ends; what a session that was killed has left is ended by the next one. What is not
installed skips the test, and says how to install it; with CI=true it fails the test instead.
`STAGEDOOR_TEST_FAST=1` leaves out what takes a server on Java.
"""

from __future__ import annotations

import asyncio
import atexit
import itertools
import os
import re
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable, Coroutine, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import pytest

from chassis.clock import SYSTEM
from deploy.servers import (
    NotInstalled,
    Running,
    Servers,
    default_cache,
    make_bucket,
    processes,
)
from deploy.servers.together import together
from tests.support.needs import missing, must

T = TypeVar("T")
_PREFIX = "stagedoor-servers-"
_ON_JAVA = ("kafka", "cassandra")
_PYTEST = re.compile(r".*/pytest-of-[^/]+/pytest-\d+(?=/)")


def url(name: str) -> str:
    """The URL of the session's server. `s3` also puts its keys into this process's environment."""
    given = os.environ.get(f"STAGEDOOR_TEST_{name.upper()}")
    if given:
        return given
    shared = server(name)
    os.environ.update(shared.environ)
    return shared.url


def fresh(name: str) -> str:
    """The same server's URL with a keyspace or bucket that nobody used before. Redis has only
    fifteen databases to go round: the next one, which may hold what an earlier test left.

    Keyspaces are not made: the adapter does that. Buckets are. Kafka and Consul have no such
    part: give topics and services names of their own, such as `unique("orders")`.
    """
    parts = urlsplit(url(name))
    match name:
        case "cassandra":
            return urlunsplit(parts._replace(path=f"/{unique('t').replace('-', '_')}"))
        case "redis":
            return urlunsplit(parts._replace(path=f"/{_databases()}"))
        case "s3":
            bucket = unique("t")
            made = urlunsplit(parts._replace(netloc=bucket, path=""))
            _run(make_bucket(made, os.environ, SYSTEM))
            return made
    return urlunsplit(parts)


def unique(prefix: str) -> str:
    """A name nobody used before: `prefix-` and eight lower-case hexadecimal digits."""
    return f"{prefix}-{secrets.token_hex(4)}"


class RealServer:
    """One server of the launcher, for tests that kill it. Every method blocks until it is done."""

    def __init__(self, servers: Servers, name: str) -> None:
        self.name = name
        self._servers = servers
        self._running = self.start()

    @property
    def url(self) -> str:
        return self._running.url

    @property
    def environ(self) -> Mapping[str, str]:
        return self._running.environ

    @property
    def pid(self) -> int:
        return self._running.pid

    def start(self) -> Running:
        """Starts it unless it runs, on the same ports and data; it truly answers on return."""
        self._running = _run(self._servers.up([self.name]))[self.name]
        return self._running

    def stop(self) -> None:
        """SIGTERM, and waits until it is gone."""
        _run(self._servers.down([self.name]))

    def kill(self) -> None:
        """SIGKILL, and waits until it is gone."""
        assert _run(self._servers.kill(self.name)), f"{self.name} was not running"


@cache
def server(name: str) -> RealServer:
    """The session's own server of the launcher. Who kills it starts it again."""
    return _started(_servers(), name)


def own(name: str, home: Path, *, extra: tuple[str, str] | None = None) -> RealServer:
    """A server of the caller's own, in `home`; the caller stops it. `extra` is the name and the
    text of a file of settings that the launcher adds to its own."""
    if extra is not None:
        folder = home / "servers" / name / name
        folder.mkdir(parents=True)
        (folder / extra[0]).write_text(extra[1], encoding="utf-8")
    return _started(Servers(home, default_cache(os.environ), SYSTEM), name)


def require(name: str) -> None:
    """Skips the test where the server is not installed; fails it with CI=true."""
    _swept()
    if name in _ON_JAVA and os.environ.get("STAGEDOOR_TEST_FAST") and not must():
        pytest.skip(f"{name} takes half a minute to start: left out of FAST=1")
    if Servers(Path(), default_cache(os.environ)).installed([name])[name] is None:
        missing(str(NotInstalled(name)))


def _started(servers: Servers, name: str) -> RealServer:
    require(name)
    return RealServer(servers, name)


@cache
def _servers() -> Servers:
    home = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    atexit.register(_close, home)
    return Servers(home, default_cache(os.environ), SYSTEM)


def _close(home: Path) -> None:
    asyncio.run(_closed(home))


async def _closed(home: Path) -> None:
    await Servers(home, default_cache(os.environ), SYSTEM).down()
    shutil.rmtree(home, ignore_errors=True)


@cache
def _swept() -> None:
    sweep()


def sweep() -> None:
    """Ends every server that a session of tests started and did not live to stop: in a directory
    of its own, or in any below its `tmp_path`."""
    left = [one.process for one in processes.every_marked() if _is_abandoned(one.home)]
    _run(together(processes.end(one, SYSTEM, 10.0) for one in left))
    for home in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if _is_abandoned(home):
            shutil.rmtree(home, ignore_errors=True)


def _is_abandoned(home: Path) -> bool:
    if home.name.startswith(_PREFIX):
        return not _lives(home.name.split("-")[2])
    below = _PYTEST.match(str(home))
    return below is not None and not _lives(_owner(Path(below.group())))


def _owner(base: Path) -> str:
    """The pid of the session that made it, as pytest writes it; nothing after its end."""
    try:
        return (base / ".lock").read_text(encoding="ascii")
    except OSError:
        return ""


def _lives(pid: str) -> bool:
    return pid.isdigit() and Path("/proc", pid).exists()


@cache
def _database_numbers() -> Callable[[], int]:
    return itertools.cycle(range(1, 16)).__next__


def _databases() -> int:
    return _database_numbers()()


def _run(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, run to its end in a thread: the caller's own loop may be running."""
    done: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(asyncio.run(work))
        except BaseException as fault:
            failed.append(fault)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]
