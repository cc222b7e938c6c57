"""Kafka over TLS: only the brokers that they should be are spoken to, and no secret is told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaError

from chassis.errors import ConfigurationFault, StagedoorError, StoreUnavailable
from chassis.events import Message, Topic, open_log
from chassis.events.kafka_faults import Complaints
from tests.support.secured import Secured, secured

pytestmark = pytest.mark.slow
LOGIN = "stagedoor:not-to-be-told@"
PLAYS = Topic("plays", partitions=1)
SETTINGS = """
listeners=CLIENTS://$address:$port,CONTROLLER://$address:$controller,TLS://$address:{port}
advertised.listeners=CLIENTS://$address:$port,TLS://localhost:{port}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,CLIENTS:PLAINTEXT,TLS:SSL
listener.name.tls.ssl.keystore.type=PEM
listener.name.tls.ssl.keystore.location={certificate}
"""


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("tls")
    with secured("kafka", "extra.properties", SETTINGS, folder) as kafka:
        yield kafka


async def told(url: str) -> StagedoorError:
    log = open_log(url)
    with pytest.raises(StagedoorError) as raised:
        await log.ensure(PLAYS)
    await log.close()
    assert "not-to-be-told" not in str(raised.value) + repr(log)
    return raised.value


async def test_brokers_whose_authority_is_trusted_serve(kafka: Secured) -> None:
    log = open_log(f"kafkas://localhost:{kafka.tls}?ca={kafka.ca}&wait_s=30")
    await log.ensure(PLAYS)
    await log.produce([Message("plays", b"k", b"v")])
    consumer = log.consumer("g", ["plays"])
    records = await consumer.consume(1, 30)
    assert [record.value for record in records] == [b"v"]
    await consumer.close()
    await log.close()


async def test_brokers_that_cannot_prove_their_name_are_a_wrong_setting(kafka: Secured) -> None:
    urls = [f"kafkas://{LOGIN}{place}&wait_s=30" for place in kafka.strangers("?")]
    for fault in await asyncio.gather(*map(told, urls)):
        assert isinstance(fault, ConfigurationFault)
        assert "no certificate that we trust" in str(fault) and "?ca=" in str(fault)


async def test_those_who_only_produce_or_consume_are_told_the_same(kafka: Secured) -> None:
    plain = open_log(f"kafka://localhost:{kafka.plain}")
    await plain.ensure(PLAYS)
    await plain.close()
    log = open_log(f"kafkas://{LOGIN}localhost:{kafka.tls}?ca={kafka.other}&wait_s=30")
    with pytest.raises(ConfigurationFault, match="no certificate that we trust"):
        await log.produce([Message("plays", b"k", b"v")])
    with pytest.raises(ConfigurationFault, match="no certificate that we trust"):
        await log.consumer("g", ["plays"]).consume(1, 30)
    await log.close()


def test_one_broker_that_cannot_prove_its_name_is_no_reason_while_others_serve() -> None:
    complaints = Complaints()
    complaints.note(KafkaError(KafkaError._SSL, "handshake failed: certificate verify failed"))
    assert complaints.refused is None
    complaints.note(KafkaError(KafkaError._TRANSPORT, "connection refused"))
    complaints.note(KafkaError(KafkaError._ALL_BROKERS_DOWN, "3/3 brokers are down"))
    assert complaints.refused is None


async def test_plain_text_and_tls_do_not_meet(kafka: Secured) -> None:
    to_tls, to_plain = await asyncio.gather(
        told(f"kafka://{LOGIN}localhost:{kafka.tls}?wait_s=2"),
        told(f"kafkas://{LOGIN}localhost:{kafka.plain}?ca={kafka.ca}&wait_s=2"),
    )
    assert isinstance(to_tls, StoreUnavailable) and isinstance(to_plain, StoreUnavailable)
    assert "write kafkas:// if it speaks TLS" in str(to_tls)
    assert "write kafka:// if it speaks no TLS" in str(to_plain)


@pytest.mark.parametrize(("name", "why"), [("missing", "no such file"), ("empty", "holds no")])
def test_an_authority_that_cannot_be_read_is_a_wrong_setting(
    name: str, why: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(ConfigurationFault, match=why) as raised:
        open_log(f"kafkas://{LOGIN}localhost:9093?ca={tmp_path / name}")
    assert "not-to-be-told" not in str(raised.value)


def test_an_authority_is_only_for_tls() -> None:
    with pytest.raises(ConfigurationFault, match="needs kafkas://"):
        open_log("kafka://h:7?ca=/x.pem")
