"""What the launcher remembers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from chassis.clock import ManualClock
from chassis.errors import ConfigurationFault
from deploy.servers.folders import PATIENCE_S, Folders
from deploy.servers.processes import Identity
from deploy.servers.state import InstanceState, ServerState, StateFile

KAFKA = ServerState(
    [InstanceState("kafka", "127.0.0.1", {"main": 19092}, Identity(4711, 99), 2.5)], auth=True
)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    state = StateFile(tmp_path)
    assert state.read() == {}
    state.write("kafka", KAFKA)
    state.write("redis", ServerState([]))
    assert StateFile(tmp_path).read() == {"kafka": KAFKA, "redis": ServerState([])}


def test_nothing_half_written_is_left(tmp_path: Path) -> None:
    state = StateFile(tmp_path)
    (tmp_path / "state.json.1.part").write_bytes(b"{")
    state.write("kafka", KAFKA)
    assert state.read() == {"kafka": KAFKA}


def test_a_state_that_cannot_be_read_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text('{"kafka": 1}')
    with pytest.raises(ConfigurationFault, match="`stagedoor servers down` and remove it"):
        StateFile(tmp_path).read()


def test_two_commands_at_once_are_one_too_many(tmp_path: Path) -> None:
    refused = pytest.raises(ConfigurationFault, match="another command")
    with StateFile(tmp_path).only_one(), refused, StateFile(tmp_path).only_one():
        pass
    with StateFile(tmp_path).only_one():
        pass


async def test_who_comes_second_waits_for_the_first_and_says_so_once(tmp_path: Path) -> None:
    clock, folders, said = ManualClock(), Folders(tmp_path), list[str]()
    order: list[str] = []

    async def second() -> None:
        async with folders.in_turn(clock, said.append):
            order.append("second")

    with folders.only_one():
        waiting = asyncio.create_task(second())
        await clock.advance(60)
        order.append("first")
        assert not waiting.done()
    await clock.advance(1)
    await waiting
    assert order == ["first", "second"]
    assert len(said) == 1 and "waiting" in said[0]


async def test_nobody_waits_for_ever(tmp_path: Path) -> None:
    clock, folders = ManualClock(), Folders(tmp_path)

    async def second() -> None:
        async with folders.in_turn(clock, print):
            raise AssertionError("it is not our turn")

    with folders.only_one():
        waiting = asyncio.create_task(second())
        await clock.advance(PATIENCE_S + 1)
        with pytest.raises(ConfigurationFault, match="another command"):
            await waiting


def test_a_lock_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    held = StateFile(tmp_path).only_one()
    with pytest.raises(ConfigurationFault, match="lock: Is a directory"), held:
        pass


def test_what_fails_under_the_lock_is_not_taken_for_another_command(tmp_path: Path) -> None:
    with pytest.raises(BlockingIOError), StateFile(tmp_path).only_one():
        raise BlockingIOError("no more processes")
