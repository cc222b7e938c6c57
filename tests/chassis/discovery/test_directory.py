"""Live lists: quick to hear, slow to panic, and there without the registry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from chassis.clock import SYSTEM, ManualClock
from chassis.discovery import Instance
from chassis.discovery.directory import Directory
from chassis.errors import NoInstances, StoreUnavailable
from tests.support.ports import free_port
from tests.support.registry import opened, serving


def instance(number: int) -> Instance:
    return Instance(f"test-{number}", "test", "127.0.0.1", 9000 + number)


class FakeRegistry:
    """Answers what the test puts into `answers`; an exception is raised; empty: blocks."""

    def __init__(self) -> None:
        self.answers: asyncio.Queue[list[Instance] | Exception] = asyncio.Queue()
        self.asked: list[int] = []
        self.index = 0

    async def instances(self, service, *, index=0, wait_s=30.0):
        self.asked.append(index)
        answer = await self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        self.index += 1
        return self.index, answer


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
async def directory(registry, clock, tmp_path) -> AsyncIterator[Directory]:
    directory = Directory(registry, clock, state=tmp_path / "lists")
    directory.watch("test")
    yield directory
    await directory.close()


async def test_answers_become_lists_and_the_next_question_waits_from_there(
    directory, registry, clock
):
    assert directory.instances("test") == ()
    registry.answers.put_nowait([instance(1)])
    await clock.advance(0.1)
    assert directory.instances("test") == (instance(1),)
    assert registry.asked == [0, 1]


async def test_an_unwatched_service_has_no_instances(directory):
    assert directory.instances("unheard of") == ()


async def test_losing_the_registry_changes_nothing_and_questions_back_off(
    directory, registry, clock
):
    registry.answers.put_nowait([instance(1)])
    await clock.advance(1)
    for _ in range(1000):
        registry.answers.put_nowait(StoreUnavailable("away"))
    await clock.advance(60)
    assert directory.instances("test") == (instance(1),)
    assert 25 < len(registry.asked) < 80


async def test_a_registry_that_never_blocks_is_not_asked_in_a_tight_loop(
    directory, registry, clock
):
    for _ in range(10_000):
        registry.answers.put_nowait([instance(1)])
    await clock.advance(1)
    assert len(registry.asked) <= 52


async def test_an_index_that_goes_backwards_is_dropped(directory, registry, clock):
    registry.index = 100
    registry.answers.put_nowait([instance(1)])
    await clock.advance(0.1)
    registry.index = 0
    registry.answers.put_nowait([instance(1)])
    await clock.advance(0.1)
    assert registry.asked == [0, 101, 0]


async def test_an_empty_answer_is_believed_only_after_the_grace_period(directory, registry, clock):
    registry.answers.put_nowait([instance(1)])
    await clock.advance(1)
    registry.answers.put_nowait([])
    await clock.advance(9)
    assert directory.instances("test") == (instance(1),)
    await clock.advance(2)
    assert directory.instances("test") == ()


async def test_a_watch_that_dies_of_a_defect_is_told_to_the_loop(directory, registry, clock):
    told = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(context["message"]))
    registry.answers.put_nowait(RuntimeError("a defect"))
    await clock.advance(0.1)
    assert told == ["the watch of test ended by a defect"]


async def test_subscribers_hear_every_swap_until_they_leave(directory, registry, clock):
    heard = []
    leave = directory.subscribe("test", heard.append)
    registry.answers.put_nowait([instance(1)])
    await clock.advance(0.1)
    registry.answers.put_nowait([instance(1)])
    await clock.advance(0.1)
    leave()
    leave()
    registry.answers.put_nowait([instance(1), instance(2)])
    await clock.advance(0.1)
    assert heard == [(instance(1),)]


async def test_ready_waits_for_the_first_instance(directory, registry, clock):
    waiting = asyncio.create_task(directory.ready("test", 5.0))
    await clock.advance(1)
    registry.answers.put_nowait([])
    await clock.advance(1)
    assert not waiting.done()
    registry.answers.put_nowait([instance(1)])
    await clock.advance(1)
    assert await waiting == (instance(1),)


async def test_ready_gives_up_in_time(directory, clock):
    waiting = asyncio.create_task(directory.ready("test", 5.0))
    await clock.advance(5.1)
    with pytest.raises(NoInstances, match="no instance of test appeared within 5 s"):
        await waiting


@pytest.mark.parametrize("answer", [[instance(1)], [], StoreUnavailable("away")])
async def test_a_first_answer_is_a_good_one_or_an_empty_one_or_a_refusal(
    directory, registry, clock, answer
):
    waiting = asyncio.create_task(directory.first_answer("test", 5.0))
    await clock.advance(4.9)
    assert not waiting.done()
    registry.answers.put_nowait(answer)
    await clock.advance(0)
    assert waiting.done()
    await directory.first_answer("test", 5.0)


async def test_a_first_answer_is_not_waited_for_longer(directory, clock):
    waiting = asyncio.create_task(directory.first_answer("test", 5.0))
    await clock.advance(4.9)
    assert not waiting.done()
    await clock.advance(0.2)
    assert waiting.done()


async def test_what_is_remembered_does_for_a_first_answer(directory, registry, clock, tmp_path):
    registry.answers.put_nowait([instance(1)])
    await clock.advance(0.1)
    later = Directory(FakeRegistry(), clock, state=tmp_path / "lists")
    waiting = asyncio.create_task(later.first_answer("test", 5.0))
    await clock.advance(0)
    assert waiting.done()
    await later.close()


async def test_a_cancelled_ready_leaves_nothing_behind(directory, clock):
    waiting = asyncio.create_task(directory.ready("test", 5.0))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert directory._watches["test"]._waiting == set()


async def test_lists_survive_the_process(directory, registry, clock, tmp_path):
    registry.answers.put_nowait([instance(1)])
    await clock.advance(0.1)
    later = Directory(FakeRegistry(), clock, state=tmp_path / "lists")
    later.watch("test")
    assert later.instances("test") == (instance(1),)
    await later.close()


async def test_a_damaged_memory_is_no_memory(clock, tmp_path):
    (tmp_path / "test.json").write_text("{")
    directory = Directory(FakeRegistry(), clock, state=tmp_path)
    directory.watch("test")
    assert directory.instances("test") == ()
    await directory.close()


async def test_a_name_too_long_for_a_file_is_followed_all_the_same(registry, clock, tmp_path):
    directory = Directory(registry, clock, state=tmp_path)
    directory.watch("x" * 253)
    for found in ([instance(1)], [instance(2)]):
        registry.answers.put_nowait(found)
        await clock.advance(1)
        assert directory.instances("x" * 253) == tuple(found)
    await directory.close()


async def until(condition, seconds: float) -> float:
    """Seconds until the condition held, on the real clock."""
    started = SYSTEM.monotonic()
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # a condition over a real socket
            await asyncio.sleep(0.002)
    return SYSTEM.monotonic() - started


async def test_a_deregistration_shows_within_a_quarter_of_a_second():
    async with serving() as address:
        registry = opened(address)
        directory = Directory(registry, SYSTEM)
        await registry.register(instance(1))
        leaving = await registry.register(instance(2))
        await directory.ready("test", 2.0)
        await until(lambda: len(directory.instances("test")) == 2, 2.0)
        await leaving.deregister()
        took = await until(lambda: directory.instances("test") == (instance(1),), 2.0)
        assert took < 0.25
        await directory.close()
        await registry.close()


async def test_a_registry_that_restarts_empty_empties_nothing_and_gets_everybody_back():
    port = free_port()
    seen = set()
    async with serving(port=port) as address:
        registry = opened(address)
        directory = Directory(registry, SYSTEM)
        directory.subscribe("test", lambda instances: seen.add(len(instances)))
        await registry.register(instance(1), ttl_s=0.3)
        await registry.register(instance(2), ttl_s=0.3)
        await until(lambda: len(directory.instances("test")) == 2, 2.0)
        seen.clear()
    async with serving(port=port):
        fresh = opened(address)
        index, found = 0, []
        async with asyncio.timeout(5):
            while len(found) < 2:
                index, found = await fresh.instances("test", index=index, wait_s=1)
        assert seen <= {2}  # the second may be told of a moment after it is there
        assert len(directory.instances("test")) == 2
        for one in (directory, registry, fresh):
            await one.close()
