"""What a system stands on, and that it is remembered."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from chassis import config
from chassis.errors import ConfigurationFault
from chassis.service import ProcessSettings
from deploy.backing import FILE, NAMES, Backing, remembered, settings_of
from deploy.profiles import SERVERS, backing_of, of_profile
from deploy.servers import Running

KAFKA = "kafka://127.0.0.1:9092"
CONSUL = "consul://127.0.0.1:8501"


def keep(root: Path, backing: Backing) -> None:
    (root / "run").mkdir(parents=True, exist_ok=True)
    (root / FILE).write_bytes(msgspec.json.encode(backing))


def test_a_directory_without_a_system_stands_on_the_embedded_ones(tmp_path: Path) -> None:
    assert remembered(tmp_path) == Backing()
    settings = settings_of(tmp_path)
    assert settings.log_url == f"log://{tmp_path}/events"
    assert settings.views_url == f"sqlite://{tmp_path}/data/views.db"


def test_one_url_moves_one_backing_service_and_leaves_the_others(tmp_path: Path) -> None:
    keep(tmp_path, Backing(log=KAFKA))
    settings = settings_of(tmp_path)
    assert settings.log_url == KAFKA
    assert settings.objects_url == f"file://{tmp_path}/archive"


def test_every_url_reaches_the_settings_of_a_process() -> None:
    urls = {name: f"{name}://somewhere" for name in NAMES}
    settings = config.load(ProcessSettings, Backing(**urls).environ())
    assert {name: getattr(settings, name) for name in NAMES} == urls


def test_secrets_reach_the_environment_and_no_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "")
    backing = Backing(log=KAFKA, secrets={"AWS_SECRET_ACCESS_KEY": "s3cr3t"})
    keep(tmp_path, backing)
    settings_of(tmp_path)
    assert backing.environ()["AWS_SECRET_ACCESS_KEY"] == "s3cr3t"
    assert repr(backing) == "Backing(log)"


def test_what_is_given_wins_over_the_profile() -> None:
    profile = Backing(log=KAFKA, registry=CONSUL, secrets={"A": "1", "B": "1"})
    given = Backing(log="kafka://elsewhere:9092", secrets={"B": "2"})
    both = given.over(profile)
    assert (both.log, both.registry) == ("kafka://elsewhere:9092", CONSUL)
    assert both.secrets == {"A": "1", "B": "2"}


def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    keep(tmp_path, Backing())
    (tmp_path / FILE).write_text("{")
    with pytest.raises(ConfigurationFault, match=r"backing\.json.*remove it"):
        remembered(tmp_path)


def test_an_unknown_profile_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationFault, match="write embedded or real"):
        of_profile("reel", Backing(), tmp_path, lambda text: None)


def test_each_server_stands_for_its_backing_services_and_brings_its_secrets() -> None:
    running = {
        name: Running(name, "1", f"{name}://here", [], {f"{name.upper()}_KEY": "k"})
        for name in SERVERS
    }
    backing = backing_of(running)
    assert (backing.log, backing.tables, backing.views) == (
        "kafka://here",
        "cassandra://here",
        "cassandra://here",
    )
    assert {name for name in NAMES if not getattr(backing, name)} == set()
    assert len(backing.secrets) == len(SERVERS)


def test_the_real_profile_starts_no_server_that_a_url_replaces(tmp_path: Path) -> None:
    given = Backing(**{name: f"{name}://elsewhere" for name in NAMES})
    assert of_profile("real", given, tmp_path, lambda text: None) == given
    assert not (tmp_path / "servers").exists()
