"""A name and its addresses: resolved again and again, believed as a registry's answers are."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest

from chassis.clock import SYSTEM, ManualClock
from chassis.discovery.directory import Directory
from chassis.discovery.names import PATIENCE_S, REFRESH_S, Names
from chassis.errors import StoreUnavailable

SHOP = "shop.example:9000"
DEAD = "dead.example:9000"


class Resolver:
    """Answers what the test puts into `now`; an exception is raised."""

    def __init__(self, *now: str) -> None:
        self.now: tuple[str, ...] | Exception = now
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> tuple[str, ...]:
        self.asked.append((host, port))
        if isinstance(self.now, Exception):
            raise self.now
        return self.now


class Silent:
    """Answers for every host but `dead.example`, which has to wait for `told`."""

    def __init__(self) -> None:
        self.told: asyncio.Future[tuple[str, ...]] = asyncio.get_running_loop().create_future()
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> tuple[str, ...]:
        self.asked.append(host)
        if host == "dead.example":
            return await asyncio.shield(self.told)
        return (f"192.0.2.{len(self.asked)}",)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def resolver() -> Resolver:
    return Resolver("192.0.2.2", "192.0.2.1", "2001:db8::1")


@pytest.fixture
async def directory(resolver: Resolver, clock: ManualClock, tmp_path) -> AsyncIterator[Directory]:
    directory = Directory(Names(clock, resolver), clock, state=tmp_path)
    directory.watch(SHOP)
    await settle()
    yield directory
    await directory.close()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def pass_time(clock: ManualClock, seconds: float) -> None:
    for _ in range(round(seconds * 10)):
        clock.tick(0.1)
        await settle()


def ids(directory: Directory) -> list[str]:
    return [one.id for one in directory.instances(SHOP)]


async def test_each_address_is_an_instance(directory: Directory, resolver: Resolver) -> None:
    assert ids(directory) == ["192.0.2.1:9000", "192.0.2.2:9000", "[2001:db8::1]:9000"]
    one = directory.instances(SHOP)[2]
    assert (one.host, one.port, one.service) == ("2001:db8::1", 9000, "shop.example")
    assert one.address == "[2001:db8::1]:9000"
    assert resolver.asked == [("shop.example", 9000)]


async def test_a_change_is_seen_at_the_next_look_and_not_before(
    directory: Directory, resolver: Resolver, clock: ManualClock
) -> None:
    resolver.now = ("192.0.2.1", "192.0.2.7")
    await pass_time(clock, 4.5)
    assert len(ids(directory)) == 3 and len(resolver.asked) == 1
    await pass_time(clock, 1.0)
    assert ids(directory) == ["192.0.2.1:9000", "192.0.2.7:9000"]


async def test_the_same_addresses_are_the_same_tuple(
    directory: Directory, resolver: Resolver, clock: ManualClock
) -> None:
    before = directory.instances(SHOP)
    resolver.now = ("2001:db8::1", "192.0.2.1", "192.0.2.2")
    await pass_time(clock, 60)
    assert directory.instances(SHOP) is before
    assert 10 <= len(resolver.asked) <= 13


@pytest.mark.parametrize(
    "answer",
    [OSError(-2, "no such name"), OSError(-3, "try again"), UnicodeError("label empty"), ()],
)
async def test_a_name_that_is_lost_or_empty_at_once_keeps_what_it_meant_and_its_watch(
    answer: Exception | tuple[str, ...],
    directory: Directory,
    resolver: Resolver,
    clock: ManualClock,
) -> None:
    before = ids(directory)
    resolver.now = answer
    await pass_time(clock, 12)
    assert ids(directory) == before
    resolver.now = ("192.0.2.9",)
    await pass_time(clock, 30)
    assert ids(directory) == ["192.0.2.9:9000"]


async def test_a_later_process_knows_the_name_while_nobody_can_tell(
    directory: Directory, clock: ManualClock, tmp_path
) -> None:
    refuses = Resolver()
    refuses.now = OSError(-3, "try again")
    later = Directory(Names(clock, refuses), clock, state=tmp_path)
    later.watch(SHOP)
    await settle()
    assert refuses.asked and later.instances(SHOP) == directory.instances(SHOP)
    await later.close()


async def test_who_cannot_resolve_says_which_name_and_why(clock: ManualClock) -> None:
    resolver = Resolver()
    resolver.now = OSError(-2, "no such name")
    with pytest.raises(StoreUnavailable, match=r"'shop\.example' cannot be resolved: no such name"):
        await Names(clock, resolver).instances(SHOP)


async def test_a_name_that_cannot_be_resolved_is_asked_for_no_more_often_than_others(
    directory: Directory, resolver: Resolver, clock: ManualClock
) -> None:
    resolver.now = OSError(-2, "no such name")
    await pass_time(clock, 60)
    assert 10 <= len(resolver.asked) <= 13


async def test_a_look_up_that_hangs_is_not_begun_again_and_its_late_answer_counts(
    clock: ManualClock,
) -> None:
    silent = Silent()
    names = Names(clock, silent)
    for _ in range(3):
        looking = asyncio.create_task(names.instances(DEAD))
        await settle()
        clock.tick(REFRESH_S)
        await settle()
        clock.tick(PATIENCE_S)
        await settle()
        assert looking.done()
        with pytest.raises(StoreUnavailable, match=r"'dead\.example' .* no answer within 10 s"):
            await looking
    assert silent.asked == ["dead.example"]
    silent.told.set_result(("192.0.2.1",))
    looking = asyncio.create_task(names.instances(DEAD))
    await pass_time(clock, REFRESH_S)
    assert [one.id for one in (await looking)[1]] == ["192.0.2.1:9000"]
    looking = asyncio.create_task(names.instances(DEAD))
    await pass_time(clock, REFRESH_S)
    assert (await looking)[0] == 1 and len(silent.asked) == 2


async def test_a_name_that_nobody_answers_for_holds_up_no_other_and_no_close(
    clock: ManualClock,
) -> None:
    silent = Silent()
    directory = Directory(Names(clock, silent), clock)
    directory.watch(DEAD)
    directory.watch(SHOP)
    await settle()
    assert ids(directory) == ["192.0.2.2:9000"]
    await pass_time(clock, 5.5)
    assert ids(directory) == ["192.0.2.3:9000"]
    await pass_time(clock, 120)
    assert silent.asked.count("dead.example") == 1
    closing = asyncio.create_task(directory.close())
    await settle()
    assert closing.done()


async def test_one_that_fails_when_nobody_is_left_fails_silently(clock: ManualClock) -> None:
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    silent = Silent()
    names = Names(clock, silent)
    looking = asyncio.create_task(names.instances(DEAD))
    await settle()
    looking.cancel()
    silent.told.set_exception(OSError(-3, "try again"))
    await settle()
    del names, looking, silent
    gc.collect()
    assert told == []


async def test_the_system_is_asked_where_nobody_else_is() -> None:
    names = Names(SYSTEM)
    found = (await names.instances("localhost:80"))[1]
    assert "127.0.0.1:80" in [one.id for one in found]
    with pytest.raises(StoreUnavailable, match=r"'a\.\.b' cannot be resolved: .*label"):
        await names.instances("a..b:80")


async def test_a_name_that_is_not_used_any_more_is_not_asked_for_and_can_be_again(
    directory: Directory, resolver: Resolver, clock: ManualClock
) -> None:
    before = directory.instances(SHOP)
    directory.unwatch(SHOP)
    directory.unwatch("never:80")
    await pass_time(clock, 60)
    assert len(resolver.asked) == 1
    assert directory.instances(SHOP) is before
    resolver.now = ("192.0.2.9",)
    directory.watch(SHOP)
    await pass_time(clock, 6)
    assert ids(directory) == ["192.0.2.9:9000"]


@pytest.mark.parametrize("state", [b'[{"id": "\xff"}]', b"[" * 100_000, b'{"a": 1}', b""])
async def test_a_list_that_cannot_be_read_is_none(
    state: bytes, clock: ManualClock, tmp_path
) -> None:
    (tmp_path / f"{SHOP}.json").write_bytes(state)
    refuses = Resolver()
    refuses.now = OSError(-3, "try again")
    directory = Directory(Names(clock, refuses), clock, state=tmp_path)
    directory.watch(SHOP)
    await settle()
    assert refuses.asked and directory.instances(SHOP) == ()
    await directory.close()
