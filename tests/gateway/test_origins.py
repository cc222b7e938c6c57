import asyncio

import pytest

from chassis.clock import SYSTEM
from chassis.discovery import Instance
from chassis.errors import ConfigurationFault, NoInstances
from gateway.origins import NoDirectory, Origins
from gateway.rules.model import Cluster


class Listed:
    """A directory whose lists the test sets."""

    def __init__(self, *instances: Instance) -> None:
        self.now = instances
        self.watched: list[str] = []

    def watch(self, service: str) -> None:
        self.watched.append(service)

    def instances(self, service: str) -> tuple[Instance, ...]:
        return self.now


class Named(Listed):
    """A directory of names, whose first answers come when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.answered = asyncio.Event()
        self.asked: list[tuple[str, float]] = []
        self.unwatched: list[str] = []

    def unwatch(self, service: str) -> None:
        self.unwatched.append(service)

    async def first_answer(self, service: str, timeout_s: float) -> None:
        self.asked.append((service, timeout_s))
        await self.answered.wait()


def instance(port: int) -> Instance:
    return Instance(str(port), "catalog", "127.0.0.1", port)


async def test_a_cluster_that_did_not_change_keeps_its_origin() -> None:
    origins = Origins(NoDirectory(), NoDirectory(), SYSTEM)
    one, two = Cluster(instances=("127.0.0.1:1",)), Cluster(instances=("127.0.0.1:2",))
    before = origins.adopt({"a": one, "b": one})
    after = origins.adopt({"a": one, "b": two})
    assert after["a"] is before["a"]
    assert after["b"] is not before["b"]
    await origins.close()


async def test_a_service_is_watched_and_the_pools_of_instances_that_left_are_dropped() -> None:
    directory = Listed(instance(1), instance(2))
    origins = Origins(directory, NoDirectory(), SYSTEM)
    origin = origins.adopt({"a": Cluster(service="catalog")})["a"]
    for listed in directory.now:
        origin.pool(listed)
    assert directory.watched == ["catalog"]
    directory.now = (instance(2),)
    assert origin.pick(0.0).port == 2
    assert list(origin.pools) == ["127.0.0.1:2"]
    await origins.close()


async def test_an_instance_already_tried_is_left_out() -> None:
    origins = Origins(Listed(instance(1), instance(2)), NoDirectory(), SYSTEM)
    origin = origins.adopt({"a": Cluster(service="catalog")})["a"]
    assert {origin.pick(0.0, ("1",)).port for _ in range(20)} == {2}
    await origins.close()


async def test_no_instance_is_said_and_so_is_a_missing_registry() -> None:
    origins = Origins(Listed(), NoDirectory(), SYSTEM)
    with pytest.raises(NoInstances):
        origins.adopt({"a": Cluster(service="catalog")})["a"].pick(0.0)
    with pytest.raises(ConfigurationFault, match="--registry"):
        Origins(NoDirectory(), NoDirectory(), SYSTEM).adopt({"a": Cluster(service="catalog")})


async def test_a_start_waits_for_each_name_once_and_for_nothing_else() -> None:
    names = Named()
    origins = Origins(Listed(), names, SYSTEM)
    shop, bank = Cluster(dns="shop:80"), Cluster(dns="bank:80")
    others = {"c": Cluster(service="catalog"), "d": Cluster(instances=("127.0.0.1:1",))}
    origins.adopt({"a": shop, "b": shop, "bank": bank, **others})
    waiting = asyncio.create_task(origins.resolve(1.5))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert sorted(names.asked) == [("bank:80", 1.5), ("shop:80", 1.5)]
    assert not waiting.done()
    names.answered.set()
    await waiting
    await origins.close()


async def test_a_name_is_followed_for_as_long_as_a_cluster_uses_it() -> None:
    names = Named()
    origins = Origins(Listed(), names, SYSTEM)
    shop, bank = Cluster(dns="shop:80"), Cluster(dns="bank:80")
    origins.adopt({"a": shop, "b": shop, "bank": bank})
    origins.adopt({"b": shop})
    assert names.unwatched == ["bank:80"]
    origins.adopt({})
    assert names.unwatched == ["bank:80", "shop:80"]
    await origins.close()
