"""A name and its addresses: resolved again and again, believed as a registry's answers are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from chassis.clock import SYSTEM, ManualClock
from chassis.discovery.directory import Directory
from chassis.discovery.names import Names, addresses
from chassis.errors import StoreUnavailable

SHOP = "shop.example:9000"


class Resolver:
    """Answers what the test puts into `now`; an exception is raised."""

    def __init__(self, *now: str) -> None:
        self.now: tuple[str, ...] | OSError = now
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> tuple[str, ...]:
        self.asked.append((host, port))
        if isinstance(self.now, OSError):
            raise self.now
        return self.now


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


@pytest.mark.parametrize("answer", [OSError(-2, "no such name"), OSError(-3, "try again"), ()])
async def test_a_name_that_is_lost_or_empty_at_once_keeps_what_it_meant(
    answer: OSError | tuple[str, ...],
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


async def test_the_system_resolves_names_and_plain_addresses() -> None:
    assert "127.0.0.1" in await addresses("localhost", 80)
    assert await addresses("127.0.0.5", 80) == {"127.0.0.5"}
    with pytest.raises(StoreUnavailable, match="cannot be resolved"):
        await Names(SYSTEM).instances("no-such-name.invalid:80")
