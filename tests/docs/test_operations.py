"""docs/operations.md names only what there is."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import chassis
import microservices
import stream_pipeline
from chassis.contracts.events import TOPICS
from chassis.contracts.keys import Key
from chassis.events.kafka_epochs import NAME as EPOCHS
from chassis.events.kafka_epochs import topic as epochs
from chassis.events.log import Topic
from chassis.service import ProcessSettings
from deploy.servers.kinds import servers
from gateway.settings import Settings
from stream_pipeline.app import CONSUMED
from stream_pipeline.dead_letter import SUFFIX

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
DAY_S = 86_400
SAID = {"registry_away", "quota_away", "quota_refused", "log_refuses", "log_takes_again"}
METRIC = re.compile(r"(?:counter|gauge|histogram)\(\s*\"([a-z_]+)\"")


def rows(mark: str) -> dict[str, list[str]]:
    """The table between two marks: the other cells by the first."""
    _, _, rest = TEXT.partition(f"<!-- {mark} -->\n")
    shown, _, _ = rest.partition(f"\n<!-- /{mark} -->")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in shown.splitlines()]
    return {first.strip("`"): others for first, *others in cells[2:]}


def keys() -> Iterator[Key]:
    for package in (chassis, microservices, stream_pipeline):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.startswith("chassis.cache"):
                yield from keys_of(importlib.import_module(module.name))


def keys_of(module: object) -> Iterator[Key]:
    for one in vars(module).values():
        key = getattr(one, "key", None)
        if isinstance(one, type) and issubclass(one, msgspec.Struct) and isinstance(key, Key):
            yield key


def test_every_topic_is_listed_with_its_partitions():
    wanted = [Topic(name) for name in TOPICS]
    wanted += [Topic(name + SUFFIX, partitions=1) for name in CONSUMED]
    wanted += [epochs(EPOCHS)]
    listed = {name: int(cells[0]) for name, cells in rows("topics").items()}
    assert listed == {topic.name: topic.partitions for topic in wanted}


def test_every_table_is_listed_with_its_partition_and_its_life():
    listed = {
        name: (tuple(re.findall(r"`(\w+)`", partition)), life)
        for name, (partition, _, life) in rows("tables").items()
    }
    lives = {key.table: key for key in keys()}
    assert listed == {
        name: (key.partition, f"{key.ttl_s // DAY_S} days" if key.ttl_s else "for ever")
        for name, key in lives.items()
    }


def metrics() -> set[str]:
    products = ("chassis", "gateway", "play_api", "microservices", "stream_pipeline", "deploy")
    files = (file for product in products for file in (ROOT / product).rglob("*.py"))
    return {name for file in files for name in METRIC.findall(file.read_text(encoding="utf-8"))}


def test_every_metric_to_watch_exists():
    _, _, rest = TEXT.partition("| down | users see |")
    table, _, _ = rest.partition("\n\n")
    watched = {name for line in table.splitlines() for name in re.findall(r"`(\w+)`", last(line))}
    assert len(watched) > 8
    assert watched <= metrics() | {*SAID, "archive"}


def last(line: str) -> str:
    return line.rstrip("|").rpartition("|")[2]


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(STAGEDOOR_[A-Z_]+)`", TEXT))))
def test_every_variable_is_a_setting(name):
    fields = [*msgspec.structs.fields(ProcessSettings), *msgspec.structs.fields(Settings)]
    assert name in {f"STAGEDOOR_{field.encode_name.upper()}" for field in fields}


def test_the_sizes_are_of_the_servers_that_the_launcher_starts():
    _, _, rest = TEXT.partition("| server | version |")
    table, _, _ = rest.partition("\n\n")
    shown = {
        line.split("|")[1].split()[0].lower(): line.split("|")[2] for line in table.splitlines()[2:]
    }
    for name, server in servers().items():
        assert name in shown
        if version := getattr(server.installation, "version", None):
            assert shown[name].strip().startswith(version)


def test_every_setting_of_kafka_is_set_so():
    set_by_us = (ROOT / "deploy/servers/data/kafka/server.properties").read_text(encoding="utf-8")
    code = "".join(
        (ROOT / "chassis" / "events" / name).read_text(encoding="utf-8")
        for name in ("kafka_topics.py", "kafka_url.py")
    )
    _, _, rest = TEXT.partition("### Kafka\n")
    table, _, _ = rest.partition("\n\nA process")
    named = re.findall(r"`([a-z.]+\.[a-z.]+)(?:=(\w+))?`", table)
    assert len(named) > 6
    for name, value in named:
        if f'"{name}"' in code:
            assert not value or f'"{name}": "{value}"' in code, name
        else:
            assert f"{name}={value}" in set_by_us, name


def test_cassandra_is_started_as_the_document_says():
    file = ROOT / "deploy" / "servers" / "data" / "cassandra" / "cassandra.yaml"
    assert "commitlog_sync: batch" in file.read_text(encoding="utf-8")
    assert "`commitlog_sync: batch`" in TEXT
