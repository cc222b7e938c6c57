"""Which processes there are, and in which order they drain."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from chassis import config
from chassis.service import ProcessSettings
from deploy.processes import MICROSERVICES, SERVICES, ProcessSpec, fleet

ROOT = Path(__file__).resolve().parents[2]


def test_every_service_runs_once_and_the_gateway_twice() -> None:
    instances = [spec.instance for spec in fleet({})]
    assert sorted(instances) == sorted(["gateway-2", *(f"{name}-1" for name in SERVICES)])


def test_a_service_runs_as_often_as_told() -> None:
    instances = [spec.instance for spec in fleet({"rights": 3, "gateway": 1, "beacon": 0})]
    assert [name for name in instances if name.startswith("rights")] == [
        "rights-1",
        "rights-2",
        "rights-3",
    ]
    assert "gateway-2" not in instances and "beacon-1" not in instances


def test_every_microservice_of_the_repository_runs() -> None:
    folders = (ROOT / "microservices").iterdir()
    assert {one.name for one in folders if (one / "app.py").exists()} == set(MICROSERVICES)


@pytest.mark.parametrize("spec", fleet({"gateway": 1}), ids=lambda spec: spec.instance)
def test_every_process_has_a_module_that_can_be_run(spec: ProcessSpec) -> None:
    module = importlib.import_module(spec.module)
    assert hasattr(module, "run_process") or hasattr(module, "build")


@pytest.mark.parametrize("spec", fleet({"gateway": 1}), ids=lambda spec: spec.instance)
def test_what_a_process_is_told_besides_is_a_setting_of_its_own(spec: ProcessSpec) -> None:
    ours = {name: value for name, value in spec.environ.items() if name.startswith("STAGEDOOR_")}
    settings = config.load(ProcessSettings, ours)
    told = {name.removeprefix("STAGEDOOR_").lower() for name in ours}
    assert told <= set(settings.__struct_fields__)


def test_who_asks_drains_before_who_is_asked() -> None:
    order = {spec.service: spec.drain_order for spec in fleet({})}
    assert order["gateway"] < order["play_api"] < order["rights"] < order["stream_pipeline"]
    assert len({order[name] for name in MICROSERVICES}) == 1


@pytest.mark.parametrize(
    ("instances", "said"),
    [({"write": 1}, "there is no service 'write'"), ({"rights": 65}, "rights=65: write a number")],
)
def test_what_makes_no_sense_is_said(instances: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        fleet(instances)
