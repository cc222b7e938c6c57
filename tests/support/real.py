"""The real servers for tests: each started once a session, when a test first asks for it.

`STAGEDOOR_TEST_KAFKA=kafka://…` (and CASSANDRA, S3, CONSUL, REDIS) names one that runs already.
Otherwise the launcher starts its own, on free ports, in a temporary directory, and stops it when
the session ends. What is not installed skips the test, and says how to install it; with CI=true
it fails the test instead.
"""

from __future__ import annotations

import asyncio
import atexit
import itertools
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit, urlunsplit

import pytest

from chassis.clock import SYSTEM
from chassis.errors import ConfigurationFault
from deploy.servers import NotInstalled, Running, Servers, default_cache, make_bucket

T = TypeVar("T")
_PREFIX = "stagedoor-servers-"


def url(name: str) -> str:
    """The URL of the session's server. `s3` also puts its keys into this process's environment."""
    given = os.environ.get(f"STAGEDOOR_TEST_{name.upper()}")
    if given:
        return given
    shared = server(name)
    os.environ.update(shared.environ)
    return shared.url


def fresh(name: str) -> str:
    """The same server's URL with a keyspace, bucket or database number that nobody used before.

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


def own(name: str, home: Path) -> RealServer:
    """A server of the caller's own, in `home`; the caller stops it."""
    return _started(Servers(home, default_cache(os.environ), SYSTEM), name)


def require(name: str) -> None:
    """Skips the test where the server is not installed; fails it with CI=true."""
    if Servers(Path(), default_cache(os.environ)).installed([name])[name] is None:
        _missing(str(NotInstalled(name)))


def _started(servers: Servers, name: str) -> RealServer:
    require(name)
    return RealServer(servers, name)


def _missing(why: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


@cache
def _servers() -> Servers:
    temporary = Path(tempfile.gettempdir())
    for left in temporary.glob(f"{_PREFIX}*"):
        if not Path(f"/proc/{left.name.split('-')[2]}").exists():
            with suppress(ConfigurationFault):  # another session is at it
                _run(_closed(left))
    home = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    atexit.register(_close, home)
    return Servers(home, default_cache(os.environ), SYSTEM)


def _close(home: Path) -> None:
    asyncio.run(_closed(home))


async def _closed(home: Path) -> None:
    """Stops what runs there, also what a session that was killed has left."""
    await Servers(home, default_cache(os.environ), SYSTEM).down()
    shutil.rmtree(home, ignore_errors=True)


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
