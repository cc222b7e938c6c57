"""Redis over TLS: only the server that it should be is spoken to, and no secret is told."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from chassis.cache import open_cache
from chassis.errors import ConfigurationFault, StagedoorError, StoreUnavailable
from tests.support import real
from tests.support.certificates import contexts
from tests.support.ports import free_port

PASSWORD = "not-to-be-told"


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """The server's certificate, which is its own authority and made out to `localhost`."""
    contexts(tmp_path)
    return tmp_path / "localhost.pem"


@pytest.fixture
def port(tmp_path: Path, authority: Path) -> Iterator[int]:
    """Where a Redis of our own speaks TLS, and asks for a password."""
    server = real.own("redis", tmp_path / "servers")
    port = free_port()
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as link:
        link.sendall(
            f"CONFIG SET tls-cert-file {authority} tls-key-file {authority}"
            f" tls-ca-cert-file {authority} tls-auth-clients no tls-port {port}"
            f" requirepass {PASSWORD}\r\n".encode()
        )
        assert link.recv(200) == b"+OK\r\n"
    yield port
    server.stop()


async def told(url: str) -> StagedoorError:
    cache = open_cache(f"{url}{'&' if '?' in url else '?'}timeout_s=2")
    with pytest.raises(StagedoorError) as raised:
        await cache.get("k")
    await cache.close()
    assert PASSWORD not in str(raised.value) + repr(cache)
    return raised.value


async def test_a_server_whose_authority_is_trusted_serves(port: int, authority: Path) -> None:
    cache = open_cache(f"rediss://:{PASSWORD}@localhost:{port}/0?ca={authority}&timeout_s=2")
    assert await cache.put("k", b"v", 60)
    assert await cache.get("k") == b"v"
    await cache.close()


async def test_no_other_server_is_spoken_to(port: int, authority: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    contexts(tmp_path / "other")
    wrong = tmp_path / "other" / "localhost.pem"
    for place in (
        f"localhost:{port}/0?ca={wrong}",
        f"127.0.0.1:{port}/0?ca={authority}",
        f"localhost:{port}/0",
    ):
        fault = await told(f"rediss://:{PASSWORD}@{place}")
        assert isinstance(fault, ConfigurationFault)
        assert "no certificate that we trust" in str(fault)


async def test_plain_text_and_tls_do_not_meet(port: int, authority: Path) -> None:
    fault = await told(f"redis://:{PASSWORD}@localhost:{port}/0")
    assert isinstance(fault, StoreUnavailable)
    plain = urlsplit(real.url("redis"))
    fault = await told(f"rediss://:{PASSWORD}@localhost:{plain.port}/0?ca={authority}")
    assert isinstance(fault, StoreUnavailable)


def test_an_authority_is_only_for_tls() -> None:
    with pytest.raises(ConfigurationFault, match=r"rediss://…\?ca=file"):
        open_cache("redis://h:7/3?ca=/x.pem")
