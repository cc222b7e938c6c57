"""What each server is told in its configuration, and what clients are told of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from chassis.clock import ManualClock
from deploy.servers import cassandra, kafka, redis
from deploy.servers.installed import Installed
from deploy.servers.kinds import servers
from deploy.servers.placement import Taken, instances_of, place
from deploy.servers.running import Running, without_password
from deploy.servers.server import Setup

HOME = Path('/home/an odd "one" $x, #1:2')


def setup(name: str, count: int = 1, *, auth: bool = False, home: Path = HOME) -> Setup:
    kind, clock = servers([name])[name], ManualClock()
    state = place(kind, count, 20_000, Taken(), clock)
    secrets = kind.fresh_secrets(clock, auth=auth)
    instances = instances_of(state, home / name)
    return Setup(Installed("1", Path("/cache/lib")), home, instances, secrets)


def properties(text: str) -> Mapping[str, str]:
    lines = (line.partition("=") for line in text.splitlines() if line[:1] != "#")
    return {name: value for name, _, value in lines}


def test_one_broker_replicates_nothing() -> None:
    made = setup("kafka")
    told = properties(kafka.properties(made, made.first))
    assert told["offsets.topic.replication.factor"] == told["min.insync.replicas"] == "1"
    assert told["broker.session.timeout.ms"] == "2000"
    assert told["auto.create.topics.enable"] == "false"
    assert kafka.Kafka().url(made) == "kafka://127.0.0.1:20000"


def test_three_brokers_know_one_another_and_keep_three_copies() -> None:
    made = setup("kafka", 3)
    told = [properties(kafka.properties(made, one)) for one in made.instances]
    assert len({one["controller.quorum.voters"] for one in told}) == 1
    assert [one["node.id"] for one in told] == ["1", "2", "3"]
    assert told[0]["default.replication.factor"] == "3"
    assert told[0]["min.insync.replicas"] == "2"
    assert len({one["listeners"] for one in told}) == 3
    assert kafka.Kafka().url(made).count(",") == 2


def test_what_is_written_beside_the_settings_is_added_to_them(tmp_path: Path) -> None:
    made = setup("kafka", home=tmp_path)
    made.first.folder.mkdir(parents=True)
    extra = made.first.folder / "extra.properties"
    extra.write_text("listeners=MORE://$address:$port,CONTROLLER://$address:$controller\n")
    told = properties(kafka.properties(made, made.first))
    controller = made.first.ports["controller"]
    assert told["listeners"] == f"MORE://127.0.0.1:20000,CONTROLLER://127.0.0.1:{controller}"
    made = setup("cassandra", home=tmp_path)
    made.first.folder.mkdir(parents=True)
    (made.first.folder / "extra.yaml").write_text("native_transport_port_ssl: 9142\n")
    told = yaml.safe_load(cassandra.configuration(made, made.first))
    assert told["native_transport_port_ssl"] == 9142 and told["cluster_name"] == "stagedoor"


def test_a_cluster_of_kafka_has_an_id_of_22_characters() -> None:
    identifier = setup("kafka").secrets["cluster"]
    assert len(identifier.rstrip("=")) == 22 and not identifier.startswith("-")


def test_a_password_of_kafka_is_for_clients_and_brokers() -> None:
    made = setup("kafka", auth=True)
    told = properties(kafka.properties(made, made.first))
    assert told["listener.security.protocol.map"].endswith("CLIENTS:SASL_PLAINTEXT")
    secret = made.secrets["password"]
    assert f'user_stagedoor="{secret}"' in told["listener.name.clients.plain.sasl.jaas.config"]
    assert kafka.Kafka().url(made) == f"kafka://stagedoor:{secret}@127.0.0.1:20000"


def node(made: Setup, number: int) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(
        cassandra.configuration(made, made.instances[number - 1])
    )
    return loaded


def test_a_node_has_its_acknowledged_writes_on_disk() -> None:
    told = node(setup("cassandra"), 1)
    assert told["commitlog_sync"] == "batch"
    assert told["commitlog_segment_size"] == "5MiB"
    assert told["authenticator"] == "AllowAllAuthenticator"


def test_nodes_have_addresses_of_their_own_on_equal_ports_and_even_shares() -> None:
    made = setup("cassandra", 3)
    told = [node(made, number) for number in (1, 2, 3)]
    assert [one["listen_address"] for one in told] == ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    assert len({one["native_transport_port"] for one in told}) == 1
    assert len({one["storage_port"] for one in told}) == 1
    tokens = [int(one["initial_token"]) for one in told]
    assert tokens[0] == -(2**63) and tokens[2] - tokens[1] == tokens[1] - tokens[0]
    url = cassandra.Cassandra().url(made)
    assert url.endswith("127.0.0.3:20000/stagedoor?dc=datacenter1&replication=3")


def test_redis_syncs_every_write_and_wants_a_password_only_when_told() -> None:
    open_, secured = setup("redis"), setup("redis", auth=True)
    told = redis.configuration(open_, open_.first).splitlines()
    assert {"appendonly yes", "appendfsync always", 'save ""'} <= set(told)
    assert not any(line.startswith("requirepass") for line in told)
    told = redis.configuration(secured, secured.first).splitlines()
    assert f"requirepass {secured.secrets['password']}" in told


async def test_prometheus_scrapes_what_the_system_writes_beside_it(tmp_path: Path) -> None:
    kind = servers(["prometheus"])["prometheus"]
    made = setup("prometheus")
    folder = tmp_path / "prometheus"
    folder.mkdir()
    state = place(kind, 1, 20_000, Taken(), ManualClock())
    made = Setup(made.installed, tmp_path, instances_of(state, folder.parent))
    await kind.prepare(made, made.first, ManualClock())
    told = yaml.safe_load((made.first.folder / "prometheus.yml").read_text())
    assert told["scrape_configs"][0]["file_sd_configs"][0]["files"] == [f"{folder}/*.json"]


@pytest.mark.parametrize("name", ["kafka", "cassandra", "redis"])
def test_a_password_is_in_the_url_and_in_nothing_that_is_shown(name: str) -> None:
    made = setup(name, auth=True)
    url = servers([name])[name].url(made)
    secret = made.secrets["password"]
    assert secret in url
    assert secret not in without_password(url) and "***" in without_password(url)
    assert secret not in repr(made) + repr(Running(name, "1", url, []))


def test_the_keys_of_s3_are_in_the_environment_only() -> None:
    made = setup("s3")
    kind = servers(["s3"])["s3"]
    assert kind.environ(made).keys() == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert kind.url(made) == "s3://stagedoor?endpoint=http://127.0.0.1:20000&region=us-east-1"


def test_consul_takes_seven_ports() -> None:
    assert len(set(setup("consul").first.ports.values())) == 7
