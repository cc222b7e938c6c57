"""What Prometheus is told to scrape."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from chassis.clock import ManualClock
from chassis.discovery import Instance
from chassis.discovery.directory import Directory
from deploy.targets import Targets, render
from tests.support.services import MovingRegistry

SUPERVISOR = Instance("supervisor", "supervisor", "127.0.0.1", 1, {"admin": "127.0.0.1:1"})


def instance(name: str, admin: int, port: int = 80) -> Instance:
    return Instance(f"{name}-1", name, "127.0.0.1", port, {"admin": f"127.0.0.1:{admin}"})


class Followed:
    """Targets over a registry that the test moves, and everything they wrote."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.registry = MovingRegistry()
        self.directory = Directory(self.registry, self.clock)
        self.written: list[tuple[str, bytes]] = []
        self.targets = Targets(
            self.directory, ["rights", "catalog"], Path("/p"), self.write, [SUPERVISOR]
        )

    def write(self, file: Path, content: bytes) -> None:
        self.written.append((str(file), content))

    def listed(self) -> dict[str, Any]:
        """Target by instance, as last written."""
        file, content = self.written[-1]
        assert file == "/p/targets.json"
        return {one["labels"]["instance"]: one["targets"][0] for one in json.loads(content)}

    async def move(self, service: str, *instances: Instance) -> None:
        self.registry.move(service, *instances)
        for _ in range(5):
            await self.clock.advance(0.05)


@pytest.fixture
async def followed() -> AsyncIterator[Followed]:
    followed = Followed()
    followed.targets.start()
    yield followed
    await followed.directory.close()


async def test_what_is_there_from_the_begin_is_written_at_once(followed: Followed) -> None:
    (configuration, _), _ = followed.written
    assert configuration == "/p/prometheus.yml"
    assert followed.listed() == {"supervisor": "127.0.0.1:1"}


async def test_instances_that_come_go_and_move_are_followed(followed: Followed) -> None:
    await followed.move("rights", instance("rights", 5))
    await followed.move("catalog", instance("catalog", 6))
    assert followed.listed() == {
        "catalog-1": "127.0.0.1:6",
        "rights-1": "127.0.0.1:5",
        "supervisor": "127.0.0.1:1",
    }
    await followed.move("rights", instance("rights", 7))
    assert followed.listed()["rights-1"] == "127.0.0.1:7"


async def test_what_changes_nothing_for_the_scraper_writes_nothing(followed: Followed) -> None:
    await followed.move("rights", instance("rights", 5, port=80))
    count = len(followed.written)
    await followed.move("rights", instance("rights", 5, port=81))
    assert len(followed.written) == count


def test_an_instance_is_labelled_with_its_stable_name() -> None:
    (group,) = json.loads(render([instance("rights", 5)]))
    assert group == {
        "targets": ["127.0.0.1:5"],
        "labels": {"service": "rights", "instance": "rights-1"},
    }


def test_who_has_no_admin_port_is_left_out() -> None:
    assert json.loads(render([Instance("x", "x", "h", 1)])) == []


def test_the_same_instances_give_the_same_bytes_in_any_order() -> None:
    listed = [instance("rights", 5), instance("catalog", 6)]
    assert render(listed) == render(reversed(listed))
