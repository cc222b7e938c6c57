"""What is said of a system that does not become whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from chassis.clock import SYSTEM
from chassis.discovery import Instance
from chassis.discovery.directory import Directory
from chassis.errors import ConfigurationFault, StagedoorError
from deploy.starting import Hopeless, cannot_start, whole
from tests.support.ports import free_port
from tests.support.registry import opened, serving

LOG = Path("/var/lib/stagedoor/log")


class Start:
    """A start of which nothing ever comes; `hopeless` is who says so."""

    def __init__(self, *hopeless: Hopeless, missing: Sequence[str] = ("rights-1",)) -> None:
        self._hopeless = hopeless
        self._missing = list(missing)

    def missing(self, found: Iterable[Instance]) -> list[str]:
        return self._missing

    def hopeless(self) -> Sequence[Hopeless]:
        return self._hopeless


async def wait(start: Start, address: str, within_s: float) -> None:
    registry = opened(address)
    directory = Directory(registry, SYSTEM)
    try:
        await whole(start, ["rights"], directory, registry, SYSTEM, LOG, within_s=within_s)
    finally:
        await directory.close()
        await registry.close()


async def test_nobody_missing_is_a_whole_system() -> None:
    async with serving() as address:
        await wait(Start(missing=()), address, 30)


async def test_who_is_missing_after_a_while_is_named_with_where_to_look() -> None:
    async with serving() as address:
        with pytest.raises(StagedoorError, match=r"not ready .* rights-1; .*stagedoor/log"):
            await wait(Start(), address, 0)


async def test_a_registry_that_is_away_is_named_and_not_everybody_who_waits_for_it() -> None:
    port = free_port()
    with pytest.raises(StagedoorError, match=rf"the registry at 127\.0\.0\.1:{port}") as failed:
        await wait(Start(), f"consul://127.0.0.1:{port}", 0)
    assert "rights-1" not in str(failed.value)


async def test_who_cannot_start_ends_the_wait_at_once() -> None:
    hopeless = Hopeless("rights-1", "the tables URL cannot be used", misconfigured=True)
    async with serving() as address:
        with pytest.raises(ConfigurationFault, match="rights-1: the tables URL cannot be used"):
            await wait(Start(hopeless), address, 300)


def test_one_reason_of_several_processes_is_said_once() -> None:
    said = "the log URL cannot be used:\n  - write kafka://host:port"
    fault = cannot_start([Hopeless(name, said, misconfigured=True) for name in ("a-1", "b-1")])
    assert isinstance(fault, ConfigurationFault)
    assert str(fault).count("the log URL") == 1 and "a-1, b-1: the log URL" in str(fault)


def test_where_one_process_may_yet_come_up_the_settings_are_not_to_blame() -> None:
    wrong = Hopeless("a-1", "write kafka://host:port", misconfigured=True)
    away = Hopeless("b-1", "no node can be reached", misconfigured=False)
    fault = cannot_start([wrong, away])
    assert not isinstance(fault, ConfigurationFault)
    assert "a-1: write" in str(fault) and "b-1: no node" in str(fault)
