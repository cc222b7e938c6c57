"""The real servers for tests: each started once a session, when a test first asks for it.

`STAGEDOOR_TEST_KAFKA=kafka://…` (and CASSANDRA, S3, CONSUL, REDIS) names one that runs already.
Otherwise the launcher starts one, on free ports, in a temporary directory, for all workers of the
session, and whoever began the session stops it in the end; what a session that was killed has left
is ended by the next one. Nobody kills a server that all share: who must has one of its `own`. What
is not installed skips the test, and says how to install it; with CI=true it fails the test instead.
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
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import pytest

from chassis.clock import SYSTEM
from chassis.errors import NotFound
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
_SESSION = "STAGEDOOR_TEST_SESSION"
"""The variable with the pid of the process that began the session and will end it."""
_PREFIX = "stagedoor-servers-"
ON_JAVA = ("kafka", "cassandra")
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

    def __init__(self, servers: Servers, name: str, *, auth: bool = False) -> None:
        self.name = name
        self._servers = servers
        self._auth = [name] if auth else []
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
        self._running = _run(self._servers.up([self.name], auth=self._auth))[self.name]
        return self._running

    def stop(self) -> None:
        """For good, whether it runs or not; SIGKILL, as nobody will read its data."""
        _run(_ended(self._servers, self.name))

    def kill(self) -> None:
        """SIGKILL, and waits until it is gone."""
        assert _run(self._servers.kill(self.name)), f"{self.name} was not running"


@cache
def server(name: str) -> RealServer:
    """The session's own server of the launcher; the workers that ask for it first take turns."""
    begin_session()
    return _started(Servers(_shared(os.environ[_SESSION]) / name, _cache(), SYSTEM), name)


def own(
    name: str, home: Path, *, extra: tuple[str, str] | None = None, auth: bool = False
) -> RealServer:
    """A server of the caller's own, in `home`; the caller stops it. `extra` is the name and the
    text of a file of settings that the launcher adds to its own; `auth` asks for a password."""
    if extra is not None:
        folder = home / "servers" / name / name
        folder.mkdir(parents=True)
        (folder / extra[0]).write_text(extra[1], encoding="utf-8")
    return _started(Servers(home, _cache(), SYSTEM), name, auth=auth)


def own_all(names: Sequence[str], home: Path) -> dict[str, RealServer]:
    """Several of the caller's own, started at the same time."""
    for name in names:
        require(name)
    _run(Servers(home, _cache(), SYSTEM).up(names))
    return {name: own(name, home) for name in names}


def require(name: str) -> None:
    """Skips the test where the server is not installed; fails it with CI=true."""
    _swept()
    if name in ON_JAVA and os.environ.get("STAGEDOOR_TEST_FAST") and not must():
        pytest.skip(f"{name} takes half a minute to start: left out of FAST=1")
    program(name)


def program(name: str) -> Path:
    """What the launcher starts for this server: a program, or a folder of jars."""
    found = Servers(Path(), _cache()).installed([name])[name]
    if found is None:
        missing(str(NotInstalled(name)))
    return found.path


def _started(servers: Servers, name: str, *, auth: bool = False) -> RealServer:
    require(name)
    return RealServer(servers, name, auth=auth)


def begin_session() -> None:
    """This process, and those that it starts from here on, share one set of servers."""
    if _SESSION not in os.environ:
        os.environ[_SESSION] = str(os.getpid())
        atexit.register(_end_session, _shared(str(os.getpid())))


def _end_session(shared: Path) -> None:
    if shared.exists():
        homes = list(shared.iterdir())
        asyncio.run(together(_ended(Servers(home, _cache(), SYSTEM), home.name) for home in homes))
        shutil.rmtree(shared, ignore_errors=True)


async def _ended(servers: Servers, name: str) -> None:
    with suppress(NotFound):  # a test may have damaged what is remembered of it
        await servers.kill(name)
    await servers.down([name])


def _shared(pid: str) -> Path:
    return Path(tempfile.gettempdir(), f"{_PREFIX}{pid}")


def _cache() -> Path:
    return default_cache(os.environ)


@cache
def _swept() -> None:
    sweep()


def sweep() -> None:
    """Ends every server that a session of tests started and did not live to stop: in a directory
    of its own, or in any below its `tmp_path`."""
    left = [one.process for one in processes.every_marked() if _is_abandoned(one.home)]
    _run(together(processes.end(one, SYSTEM, 10.0) for one in left))
    for shared in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if _is_abandoned(shared):
            shutil.rmtree(shared, ignore_errors=True)


def _is_abandoned(home: Path) -> bool:
    for folder in (home, home.parent):
        if folder.name.startswith(_PREFIX):
            return not _lives(folder.name.removeprefix(_PREFIX))
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
    """Each worker has its part of them."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    first = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) + 1
    return itertools.cycle(range(first, 16, workers)).__next__


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
