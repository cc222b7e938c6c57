"""The live handle of a cluster: its instances, their pools, and who takes the next attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Protocol

from chassis.clock import Clock
from chassis.discovery import Instance, background
from chassis.discovery.balancer import Balancer, BalancerConfig, Standing
from chassis.errors import ConfigurationFault, NoInstances
from chassis.http.pool import Address, Pool, PoolLimits
from chassis.http.turn import TurnEnd
from chassis.telemetry.metrics import Counter
from gateway.budget import RetryBudget
from gateway.health import HealthChecks
from gateway.quantile import Quantile
from gateway.rules.match import Snapshot
from gateway.rules.model import Cluster

_SAMPLED = 15
"""Every sixteenth: enough to know a median by, and next to nothing to the others."""


class Instances(Protocol):
    """Where the instances of a service are known from: a `Directory`, or a fake of one."""

    def watch(self, service: str) -> None: ...

    def instances(self, service: str) -> tuple[Instance, ...]: ...


class Names(Instances, Protocol):
    """The same for names, which a start waits for, and which are asked for while in use."""

    def unwatch(self, service: str) -> None: ...

    async def first_answer(self, service: str, timeout_s: float) -> None:
        """Waits for it, good or bad, but no longer."""
        ...


class NoDirectory:
    """A gateway without a registry knows only static instances."""

    def watch(self, service: str) -> None:
        raise ConfigurationFault(
            [f"a cluster asks for the service {service!r}, but no registry is set; use --registry"],
            what="the rules",
        )

    def instances(self, service: str) -> tuple[Instance, ...]:
        return ()


class Origin:
    """One cluster, alive. Choosing is synchronous; only `Pool.connect` waits."""

    def __init__(
        self,
        name: str,
        cluster: Cluster,
        listed: Callable[[], tuple[Instance, ...]],
        clock: Clock,
        turn_end: TurnEnd,
    ) -> None:
        self.name = name
        self.cluster = cluster
        self.balancer = Balancer(BalancerConfig(slow_start_s=cluster.slow_start_s))
        self.budget = RetryBudget()
        self._clock = clock
        self._turn_end = turn_end
        self._random = clock.random
        self._limits = PoolLimits(
            connections=cluster.connections,
            idle=cluster.connections,
            idle_s=cluster.idle_s,
            connect_s=cluster.connect_timeout_s,
        )
        self.counters: dict[int | str, Counter] = {}
        """First attempts by status: the observer's, resolved once."""
        self.extra_counters: dict[tuple[str, int | str], Counter] = {}
        """The other attempts, by kind and status."""
        self.counted_before = 0
        """What the counters had when they were resolved."""
        self.sampled = _SAMPLED
        """Latency is learnt of first attempts whose number has none of its bits."""
        self.p50 = Quantile(0.5)
        self._quantiles = {0.5: self.p50}
        self._pools: dict[str, Pool] = {}
        self._by_id: dict[str, Pool] = {}
        self._seen: Sequence[Instance] = ()
        self._list = listed
        self._checking: asyncio.Task[None] | None = None
        if cluster.health is not None:
            checks = HealthChecks(cluster.health, self.instances, self.balancer, clock)
            self._checking = background.start(checks.run(), f"the health checks of {name}")

    def __repr__(self) -> str:
        return f"Origin({self.name}, {list(self._pools.values())!r})"

    def instances(self) -> tuple[Instance, ...]:
        return self._list()

    @property
    def pools(self) -> Mapping[str, Pool]:
        """The pools by address."""
        return self._pools

    def pick(self, now: float, tried: Container[str] = ()) -> Instance:
        """The instance for the next attempt; `NoInstances` when the cluster has none."""
        return self.choose(now, tried).instance

    def choose(self, now: float, tried: Container[str] = ()) -> Standing:
        """The same, by its standing with the balancer."""
        instances = self._list()
        if instances is not self._seen:
            self._adopt(instances)
        standing = self.balancer.choose(instances, now, self._random, tried)
        if standing is None:
            raise NoInstances(f"the cluster {self.name} has no instance", retry_after_s=1)
        return standing

    def another(self, now: float, tried: Container[str], *, spare: bool = False) -> Standing | None:
        """One that was not tried yet; None when there is none. `spare`: also one that is ejected,
        for what reached nobody so far."""
        found = self.balancer.choose(self._list(), now, self._random, tried)
        if found is not None and found.instance.id not in tried:
            return found
        return self.balancer.spare(tried) if spare else None

    # -- what attempts tell

    def calls(self) -> int:
        """First attempts that have ended since this origin began."""
        return sum(counter.n for counter in self.counters.values()) - self.counted_before

    def learn(self, latency_s: float) -> None:
        """How long a good answer took."""
        for quantile in self._quantiles.values():
            quantile.observe(latency_s)

    def quantile(self, share: float) -> Quantile:
        """Follows this quantile too, from every first attempt."""
        self.sampled = 0
        return self._quantiles.setdefault(share, Quantile(share))

    # -- connections

    def pool(self, instance: Instance) -> Pool:
        return self._by_id.get(instance.id) or self._find_pool(instance)

    def _find_pool(self, instance: Instance) -> Pool:
        pool = self._pools.get(instance.address)
        if pool is None:
            address = Address(instance.host, instance.port)
            pool = Pool(address, self._limits, clock=self._clock, turn_end=self._turn_end)
            self._pools[instance.address] = pool
        self._by_id[instance.id] = pool
        return pool

    def _adopt(self, instances: Sequence[Instance]) -> None:
        """Drops the pools of instances that are gone; what is under way there still ends."""
        self._seen = instances
        self._by_id.clear()
        gone = self._pools.keys() - {instance.address for instance in instances}
        for address in gone:
            pool = self._pools.pop(address)
            asyncio.get_running_loop().create_task(pool.close())

    async def close(self) -> None:
        if self._checking is not None:
            await background.stop(self._checking)
        pools, self._pools = self._pools, {}
        await asyncio.gather(*(pool.close() for pool in pools.values()))


def _lister(
    name: str, cluster: Cluster, directory: Instances, names: Instances
) -> Callable[[], tuple[Instance, ...]]:
    """What tells a cluster's instances: a list, the registry's directory, or that of names."""
    service = cluster.service or cluster.dns
    if service is None:
        static = tuple(_static(name, address) for address in cluster.instances)
        return lambda: static
    known = directory if cluster.dns is None else names
    known.watch(service)
    return lambda: known.instances(service)


def _names(origins: Mapping[str, Origin]) -> set[str]:
    """The names that they follow."""
    return {one.cluster.dns for one in origins.values() if one.cluster.dns is not None}


def _static(name: str, address: str) -> Instance:
    host, _, port = address.rpartition(":")
    return Instance(id=address, service=name, host=host.strip("[]"), port=int(port))


class Origins:
    """The origins of all clusters in use. A cluster that a new snapshot leaves as it was keeps its
    origin, with its warm connections and all that its balancer has learnt."""

    def __init__(self, directory: Instances, names: Names, clock: Clock) -> None:
        self._directory = directory
        self._names = names
        self._clock = clock
        self.turn_end = TurnEnd()
        self._origins: dict[str, Origin] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def adopt(self, clusters: Mapping[str, Cluster]) -> Mapping[str, Origin]:
        """The origins of a snapshot's clusters; those no snapshot has any more are closed."""
        old = self._origins
        self._origins = {
            name: self._kept(old.get(name), name, cluster) for name, cluster in clusters.items()
        }
        for unused in _names(old) - _names(self._origins):
            self._names.unwatch(unused)
        for name, origin in old.items():
            if self._origins.get(name) is not origin:
                task = asyncio.get_running_loop().create_task(origin.close())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
        return self._origins

    def _kept(self, origin: Origin | None, name: str, cluster: Cluster) -> Origin:
        if origin is not None and origin.cluster == cluster:
            return origin
        listed = _lister(name, cluster, self._directory, self._names)
        return Origin(name, cluster, listed, self._clock, self.turn_end)

    async def resolve(self, within_s: float) -> None:
        """Waits for the first answer to every name in use, good or bad, or for as long."""
        used = _names(self._origins)
        await asyncio.gather(*(self._names.first_answer(name, within_s) for name in used))

    def __getitem__(self, name: str) -> Origin:
        return self._origins[name]

    def tick(self, now: float) -> None:
        for origin in self._origins.values():
            origin.budget.settle(origin.calls(), now)

    def values(self) -> Sequence[Origin]:
        return tuple(self._origins.values())

    async def close(self) -> None:
        await asyncio.gather(*self._closing, *(origin.close() for origin in self.values()))


def static_only(snapshot: Snapshot) -> None:
    """`ConfigurationFault` for rules that need a registry, where there is none."""
    faults = [
        f"cluster {name!r} asks for a service, but no registry is set: use --registry"
        for name, cluster in snapshot.clusters.items()
        if cluster.service is not None
    ]
    if faults:
        raise ConfigurationFault(faults, what="the rules")
