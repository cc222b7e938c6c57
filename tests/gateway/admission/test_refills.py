"""Which failures of the shared cache a worker bridges by itself, and which somebody has to mend."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from chassis.cache import Grant, Quota, open_cache
from chassis.clock import SYSTEM
from chassis.errors import ConfigurationFault
from gateway.admission.refills import Refills
from tests.support import real
from tests.support.scripted import eventually

QUOTA = Quota(per_s=1000, burst=1000)
PASSWORD = "right-one"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[real.RealServer]:
    server = real.own("redis", tmp_path)
    yield server
    server.stop()


@pytest.fixture
def said() -> list[tuple[str, str]]:
    return []


@pytest.fixture
async def refills(own: real.RealServer, said: list[tuple[str, str]]) -> AsyncIterator[Refills]:
    refills = opened(f"{own.url}?timeout_s=2", said)
    yield refills
    await refills.close()


def opened(url: str, said: list[tuple[str, str]]) -> Refills:
    def say(event: str, **fields: Any) -> None:
        said.append((event, fields.get("why", "")))

    return Refills(open_cache(url, SYSTEM), SYSTEM, say)


def command(server: real.RealServer, *lines: str) -> None:
    """Tells the server over a connection of our own; each line is answered with OK or a count."""
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as link:
        for line in lines:
            link.sendall(f"{line}\r\n".encode())
            assert link.recv(64)[:1] in (b"+", b":")


async def asked(refills: Refills) -> Grant | None:
    answers: list[Grant | None] = []
    refills.ask("q", QUOTA, 1, answers.append)
    await eventually(lambda: len(answers) > 0)
    return answers[0]


async def test_a_cache_that_refuses_us_is_a_fault_at_the_start(
    own: real.RealServer, refills: Refills, said: list[tuple[str, str]]
) -> None:
    await refills.check()
    command(own, f"CONFIG SET requirepass {PASSWORD}")
    wrong = opened(own.url.replace("redis://", "redis://:wrong-one@") + "?timeout_s=2", said)
    with pytest.raises(ConfigurationFault, match="refuses the password"):
        await wrong.check()
    await wrong.close()
    assert not wrong.away
    assert said == []


async def test_a_cache_that_is_not_there_is_none(said: list[tuple[str, str]]) -> None:
    refills = opened("redis://127.0.0.1:1/0", said)
    await refills.check()
    assert refills.away
    assert [event for event, _ in said] == ["quota_away"]
    await refills.close()


async def test_a_cache_that_comes_to_refuse_us_is_said_to_until_somebody_has_mended_it(
    own: real.RealServer, refills: Refills, said: list[tuple[str, str]]
) -> None:
    assert await asked(refills) == Grant(1, 0.0)
    command(
        own,
        f"CONFIG SET requirepass {PASSWORD}",
        f"AUTH {PASSWORD}",
        "CLIENT KILL TYPE normal SKIPME yes",
    )
    async with asyncio.timeout(10):
        while "quota_refused" not in [event for event, _ in said]:
            await asked(refills)
    assert refills.away
    assert "refuses the password" in said[-1][1]
    command(own, f"AUTH {PASSWORD}", 'CONFIG SET requirepass ""')
    await eventually(lambda: not refills.away)
    assert [event for event, _ in said[-2:]] == ["quota_refused", "quota_back"]
    assert await asked(refills) == Grant(1, 0.0)
