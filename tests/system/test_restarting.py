"""Restarts under load: no client may notice, neither one with a connection nor one without."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.support.steady import Steady, steady
from tests.support.system import System, running

KEYS = b"GET /.well-known/jwks.json HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(scope="module")
def doubled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system of its own, whose catalogue has two instances."""
    home = tmp_path_factory.mktemp("doubled") / "home"
    with running(home, "--instances", "catalog=2") as started:
        yield started


def search(system: System) -> bytes:
    token = system.ask("token")["access_token"]
    line = f"Authorization: Bearer {token}\r\n"
    return f"GET /v1/titles?q=inception HTTP/1.1\r\nHost: a\r\n{line}\r\n".encode()


async def restarted(system: System, name: str, request: bytes) -> Steady:
    """What clients saw while `name` was restarted."""
    where = urlsplit(system.gateway)
    assert where.hostname is not None and where.port is not None
    async with steady(where.hostname, where.port, request) as clients:
        done = await asyncio.to_thread(system.stagedoor, "restart", name, timeout=120)
        assert done.returncode == 0, done.stderr
    return clients


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gateway", "catalog"])
async def test_no_client_notices_a_restart(doubled: System, name: str) -> None:
    before = doubled.processes()
    request = KEYS if name == "gateway" else search(doubled)
    clients = await restarted(doubled, name, request)
    assert clients.errors == []
    assert set(clients.statuses) == {200}
    assert clients.statuses[200] > 100
    after = doubled.processes()
    changed = {one for one, told in after.items() if before[one]["pid"] != told["pid"]}
    assert changed == {f"{name}-1", f"{name}-2"}
