"""Cassandra over TLS: only the nodes that they should be are spoken to, and no secret is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chassis.errors import ConfigurationFault, StagedoorError, StoreUnavailable
from chassis.storage import open_tables
from chassis.storage.cassandra_url import address_of
from tests.support.rows import Alone, OnlyKey
from tests.support.secured import Secured, secured

pytestmark = pytest.mark.slow
LOGIN = "cassandra:not-to-be-told@"
SETTINGS = """
native_transport_port_ssl: {port}
client_encryption_options:
  enabled: true
  optional: false
  keystore: {certificate}
  ssl_context_factory:
    class_name: org.apache.cassandra.security.PEMBasedSslContextFactory
"""


@pytest.fixture(scope="module")
def cassandra(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("tls")
    with secured("cassandra", "extra.yaml", SETTINGS, folder) as cassandra:
        yield cassandra


async def told(url: str) -> StagedoorError:
    tables = open_tables(url)
    with pytest.raises(StagedoorError) as raised:
        await tables.prepare(OnlyKey)
    await tables.close()
    assert "not-to-be-told" not in str(raised.value) + repr(tables)
    return raised.value


async def test_nodes_whose_authority_is_trusted_serve(cassandra: Secured) -> None:
    url = f"cassandras://localhost:{cassandra.tls}/stagedoor?ca={cassandra.ca}&timeout_s=30"
    tables = open_tables(url)
    await tables.prepare(Alone)
    await tables.put(*(Alone(f"{n}", n) for n in range(300)), together=False)
    assert await tables.get(Alone, "299") == Alone("299", 299)
    await tables.close()


async def test_nodes_that_cannot_prove_their_name_are_a_wrong_setting(cassandra: Secured) -> None:
    for place in cassandra.strangers("/stagedoor?"):
        fault = await told(f"cassandras://{LOGIN}{place}")
        assert isinstance(fault, ConfigurationFault)
        assert "no node has a certificate that we trust" in str(fault) and "?ca=" in str(fault)


async def test_plain_text_and_tls_do_not_meet(cassandra: Secured) -> None:
    fault = await told(f"cassandra://{LOGIN}localhost:{cassandra.tls}/stagedoor")
    assert isinstance(fault, StoreUnavailable)
    assert "write cassandras:// if it speaks TLS" in str(fault)
    place = f"localhost:{cassandra.plain}/stagedoor?ca={cassandra.ca}"
    fault = await told(f"cassandras://{LOGIN}{place}")
    assert isinstance(fault, StoreUnavailable)
    assert "write cassandra:// if it speaks no TLS" in str(fault)


@pytest.mark.parametrize(("name", "why"), [("missing", "no such file"), ("empty", "holds no")])
async def test_an_authority_that_cannot_be_read_is_a_wrong_setting(
    name: str, why: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").touch()
    fault = await told(f"cassandras://{LOGIN}localhost:9042/stagedoor?ca={tmp_path / name}")
    assert isinstance(fault, ConfigurationFault) and why in str(fault)


def test_an_authority_is_only_for_tls() -> None:
    with pytest.raises(ConfigurationFault, match="needs cassandras://"):
        address_of("cassandra://h:7/stagedoor?ca=/x.pem")
