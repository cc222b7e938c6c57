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
