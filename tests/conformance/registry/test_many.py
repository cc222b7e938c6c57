"""What every registry must do with hundreds of services and keys."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import pytest

from chassis.clock import SYSTEM
from chassis.discovery import Instance
from tests.support.registry import until

T = TypeVar("T")
SERVICES = 500
AT_ONCE = 8


async def all_of(calls: Iterable[Callable[[], Awaitable[T]]]) -> list[T]:
    """Runs them, a few at once."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(call: Callable[[], Awaitable[T]]) -> T:
        async with places:
            return await call()

    return await asyncio.gather(*map(one, calls))


@pytest.mark.slow
async def test_hundreds_of_services_are_registered_found_and_deregistered(
    registry, name, record_property
):
    instances = [
        Instance(f"{name}-{n}-1", f"{name}-{n}", "127.0.0.1", 9000) for n in range(SERVICES)
    ]
    began = SYSTEM.monotonic()
    registered = await all_of(
        [lambda one=one: registry.register(one, ttl_s=120.0) for one in instances]
    )
    record_property("registered_per_s", round(SERVICES / (SYSTEM.monotonic() - began)))

    async def ours() -> set[str]:
        _, names = await registry.services()
        return {one for one in names if one.startswith(name)}

    await until(ours, lambda found: len(found) == SERVICES, 30)
    last = instances[-1]
    await until(lambda: registry.instances(last.service), lambda answer: answer[1] == [last])
    await all_of([one.deregister for one in registered])
    await until(ours, lambda found: not found, 30)


@pytest.mark.slow
async def test_hundreds_of_instances_of_one_service_come_in_one_answer(registry, name):
    instances = [Instance(f"{name}-{n:04}", name, "127.0.0.1", 1 + n) for n in range(SERVICES)]
    registered = await all_of(
        [lambda one=one: registry.register(one, ttl_s=120.0) for one in instances]
    )
    await until(lambda: registry.instances(name), lambda answer: answer[1] == instances, 30)
    await all_of([one.deregister for one in registered])


@pytest.mark.slow
async def test_a_thousand_keys_are_listed_in_order(registry, name):
    keys = [f"{name}/{n:04}" for n in range(1000)]
    await all_of([lambda key=key: registry.kv_put(key, key.encode()) for key in keys])
    _, found = await registry.kv_list(f"{name}/")
    assert [(one.key, one.value.decode()) for one in found] == [(key, key) for key in keys]
    await all_of([lambda key=key: registry.kv_delete(key) for key in keys])
