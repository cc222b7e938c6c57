"""deploy/compose.yaml: no engine runs here, so everything that can be checked without one is."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
import yaml

from chassis import config
from chassis.discovery.address import address_of
from chassis.http.admin import PAGES
from chassis.service import ProcessSettings
from deploy.processes import DEFAULT_INSTANCES, SERVICES, fleet
from deploy.servers.kinds import servers
from gateway.settings import Settings, address
from microservices.licence.store import LicenceSettings
from stream_pipeline.settings import StreamSettings

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "deploy" / "compose.yaml"
SETTINGS = {
    "STAGEDOOR": (ProcessSettings, Settings),
    "STAGEDOOR_LICENCE": (LicenceSettings,),
    "STAGEDOOR_STREAM": (StreamSettings,),
}
OTHERS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "CONSUL_HTTP_TOKEN"}
PINNED = re.compile(r"[\w./-]+:v?\d+\.\d+\.\d+(-[\w.]+)?")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    return compose["services"]


@pytest.fixture(scope="module")
def processes(services: dict[str, Any]) -> dict[str, Any]:
    """Those that run a service of ours."""
    return {name: one for name, one in services.items() if one.get("command", [""])[0] == "run"}


def test_it_is_what_the_compose_specification_allows():
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, str(FILE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_process_of_the_system_is_there_as_often_as_locally(processes):
    run = [one["command"][1] for one in processes.values()]
    assert sorted(run) == sorted(spec.service for spec in fleet({}))
    assert all(run.count(name) == DEFAULT_INSTANCES.get(name, 1) for name in SERVICES)


def test_every_server_of_the_launcher_is_there_in_its_version(services):
    for name, server in servers().items():
        version = getattr(server.installation, "version", None)
        assert name in services
        if version is not None:
            assert services[name]["image"].split(":")[1].removeprefix("v") == version


def test_every_image_is_pinned_to_a_whole_version(services):
    for name, one in services.items():
        assert PINNED.fullmatch(one["image"]), f"{name}: {one['image']}"


def variables() -> Iterator[str]:
    for prefix, kinds in SETTINGS.items():
        for kind in kinds:
            names = [field.encode_name for field in msgspec.structs.fields(kind)]
            yield from (f"{prefix}_{name.upper()}" for name in names)


def test_every_variable_of_a_process_is_a_setting(services, processes):
    known = {*variables(), *OTHERS}
    for name in (*processes, "prepare"):
        unknown = set(services[name]["environment"]) - known
        assert not unknown, f"{name}: {unknown}"


def test_every_process_can_be_started_with_its_settings(processes):
    for name, one in processes.items():
        environ = {key: str(value) for key, value in one["environment"].items()}
        if one["command"][1] == "gateway":
            settings = config.load(Settings, environ)
            assert address(settings.listen, "listen")[0] == name
            assert address(settings.admin, "admin")[0] == name
        else:
            settings = config.load(ProcessSettings, environ)
            assert (settings.host, settings.port > 0, settings.admin_port > 0) == (name, True, True)
        assert address_of(settings.registry).host == "consul"


def test_every_backing_service_is_one_of_the_servers(services, processes):
    for name, one in processes.items():
        for variable in ("REGISTRY", "LOG", "TABLES", "VIEWS", "CACHE"):
            host = urlsplit(one["environment"][f"STAGEDOOR_{variable}"]).hostname
            assert host in services, f"{name}: {variable} is at {host}"
        assert "http://s3:7070" in one["environment"]["STAGEDOOR_OBJECTS"]


def test_no_two_services_publish_the_same_port(services):
    published = [port for one in services.values() for port in map(host_port, one.get("ports", ()))]
    assert len(published) == len(set(published)) > 0


def host_port(port: str) -> str:
    """Of `[address:]published:container`."""
    return port.split(":")[-2]


def test_only_the_gateways_are_published_beyond_this_machine(services):
    wide = {
        name
        for name, one in services.items()
        if any(not port.startswith("127.0.0.1:") for port in one.get("ports", ()))
    }
    assert wide == {"gateway-1", "gateway-2"}


def test_every_instance_has_a_name_of_its_own(processes):
    names = [one["environment"]["STAGEDOOR_INSTANCE"] for one in processes.values()]
    assert sorted(names) == sorted(spec.instance for spec in fleet({}))


def test_every_service_is_watched_and_nothing_starts_before_what_it_needs(services, processes):
    for name, one in services.items():
        assert one.get("healthcheck"), name
        assert set(one.get("depends_on", ())) <= set(services), name
    for name, one in processes.items():
        assert one["depends_on"] == {"prepare": {"condition": "service_completed_successfully"}}
        assert one["healthcheck"]["test"] == ["CMD", "python", "-m", "deploy.healthy"], name
    assert services["prepare"]["depends_on"]["cassandra"] == {"condition": "service_healthy"}


def test_every_volume_is_declared_and_every_file_is_there(compose, services):
    for one in services.values():
        for volume in one.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (FILE.parent / source).exists(), source
            else:
                assert source in compose["volumes"], source


def test_nothing_acknowledged_is_kept_in_a_container_alone(services):
    for name in servers():
        assert services[name]["volumes"], name


def test_cassandra_and_redis_write_before_they_acknowledge(services):
    assert "set_to commitlog_sync batch\n" in services["cassandra"]["command"][0]
    flags: Mapping[str, str] = dict(
        zip(services["redis"]["command"][1::2], services["redis"]["command"][2::2], strict=True)
    )
    assert (flags["--appendonly"], flags["--appendfsync"]) == ("yes", "always")


CASSANDRAS_OWN = """\
# batch_size_warn_threshold: 1KiB
commitlog_sync: periodic
commitlog_sync_period: 10000ms
batch_size_warn_threshold: 5KiB
unlogged_batch_across_partitions_warn_threshold: 10
"""


def change_cassandras(services, file):
    """Runs what its container runs before Cassandra itself, on another file."""
    lines = services["cassandra"]["command"][0].replace("$$", "$").splitlines()
    script = "\n".join(lines[:-1]).replace("/etc/cassandra/cassandra.yaml", str(file))
    assert lines[-1].startswith("exec ")
    shell = [*services["cassandra"]["entrypoint"], script]
    return subprocess.run(shell, capture_output=True, check=False)


def test_cassandra_is_set_as_the_launcher_sets_it(services, tmp_path):
    file = tmp_path / "cassandra.yaml"
    file.write_text(CASSANDRAS_OWN, encoding="utf-8")
    change_cassandras(services, file).check_returncode()
    told = yaml.safe_load(file.read_text(encoding="utf-8"))
    ours = (ROOT / "deploy/servers/data/cassandra/cassandra.yaml").read_text(encoding="utf-8")
    launchers = yaml.safe_load(ours)
    names = ("commitlog_sync", *(name for name in launchers if "batch" in name))
    assert told == {name: launchers[name] for name in names} and len(names) == 3


@pytest.mark.parametrize("name", ["batch_size_warn_threshold", "commitlog_sync"])
def test_a_cassandra_that_knows_no_such_setting_does_not_start(services, tmp_path, name):
    file = tmp_path / "cassandra.yaml"
    file.write_text(CASSANDRAS_OWN.replace(f"\n{name}:", "\nother:"), encoding="utf-8")
    assert change_cassandras(services, file).returncode == 1


SMALL = {
    "num.partitions",
    "offsets.topic.num.partitions",
    "transaction.state.log.num.partitions",
}
"""Settings that only make a launcher's broker smaller and quicker to start."""


def test_kafka_is_set_as_the_launcher_sets_it(services):
    told = services["kafka"]["environment"]
    lines = (ROOT / "deploy/servers/data/kafka/server.properties").read_text(encoding="utf-8")
    left_out = set()
    for line in lines.splitlines():
        name, _, value = line.partition("=")
        variable = "KAFKA_" + name.upper().replace(".", "_")
        if not value or line.startswith("#"):
            continue
        if variable not in told:
            left_out.add(name)
        elif "$" not in value:
            own = {"log.dirs": "/var/lib/kafka/data"}
            assert told[variable] == own.get(name, value), name
    assert left_out == SMALL


def test_no_secret_is_written_down(compose, services):
    secret = re.compile("SECRET|PASSWORD|TOKEN$|ACCESS_KEY")
    for name, one in services.items():
        for variable, value in one.get("environment", {}).items():
            if secret.search(variable):
                assert str(value).startswith("${"), f"{name}: {variable}"


def test_prometheus_asks_every_process_that_consul_knows(compose):
    told = yaml.safe_load(compose["configs"]["prometheus"]["content"])
    (job,) = told["scrape_configs"]
    assert job["consul_sd_configs"] == [{"server": "consul:8500"}]
    kept = {one["source_labels"][0]: one for one in job["relabel_configs"]}
    assert kept["__meta_consul_service_metadata_admin"]["target_label"] == "__address__"
    assert "/metrics" in PAGES
