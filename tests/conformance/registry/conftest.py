"""Every registry that is here: the embedded one, and a real Consul where it is installed."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from chassis.discovery import Registry
from tests.support import real
from tests.support.registry import opened, serving
from tests.support.registry_process import EmbeddedServer

KINDS = ("embedded", "consul")


@pytest.fixture(params=KINDS)
async def address(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    if request.param == "consul":
        yield real.url("consul")
        return
    async with serving(tmp_path / "registry") as address:
        yield address


@pytest.fixture
async def registry(address: str) -> AsyncIterator[Registry]:
    registry = opened(address)
    yield registry
    await registry.close()


@pytest.fixture
def name() -> str:
    """A service name and key prefix that no other test uses, so that a Consul can be shared."""
    return f"test-{uuid.uuid4().hex}"


class Mortal(Protocol):
    """A registry of the test's own, in a process that it may kill."""

    @property
    def url(self) -> str: ...

    def start(self) -> object: ...

    def kill(self) -> None: ...

    def stop(self) -> None: ...


@pytest.fixture(params=KINDS)
def mortal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mortal]:
    server: Mortal
    if request.param == "consul":
        real.url("consul")
        server = real.own("consul", tmp_path / "servers")
    else:
        server = EmbeddedServer(tmp_path / "registry")
    yield server
    server.stop()
