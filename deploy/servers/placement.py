"""Decides where a server's instances listen: as last time, as told, or anywhere free."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from chassis.clock import Clock
from deploy.servers import ports
from deploy.servers.processes import is_alive
from deploy.servers.server import Instance, Server
from deploy.servers.state import InstanceState, ServerState

LOOPBACK = "127.0.0.1"


class Taken(set[int]):
    """Ports that are promised to somebody in this state directory."""

    @classmethod
    def of(cls, states: Iterable[ServerState]) -> Taken:
        listed = (one for state in states for one in state.instances)
        return cls(port for one in listed for port in one.ports.values())


def place(kind: Server, count: int, main: int | None, taken: Taken, clock: Clock) -> ServerState:
    """A server that was never here. `main` is the first instance's port for clients; 0 or None:
    any free one. Further instances of one address take the ports after it that are free."""
    addresses = _addresses(kind, count)
    if main:
        taken.add(main)
    together = _fresh(kind, addresses, taken, clock)
    instances = []
    for number, address in enumerate(addresses, 1):
        chosen = dict(together)
        if number > 1 and not kind.own_addresses:
            chosen = _fresh(kind, [address], taken, clock)
            if main:
                chosen["main"] = main + number - 1
        elif main:
            chosen["main"] = main
        taken.update(chosen.values())
        instances.append(InstanceState(_name(kind, number, count), address, chosen))
    return ServerState(instances)


def _fresh(kind: Server, addresses: list[str], taken: Taken, clock: Clock) -> dict[str, int]:
    """A free port for each use, no two of them the same."""
    chosen = {}
    for use in kind.ports:
        chosen[use] = ports.any_free(addresses, clock, taken)
        taken.add(chosen[use])
    return chosen


def moved(kind: Server, state: ServerState, main: int, taken: Taken, clock: Clock) -> ServerState:
    """The same instances on another port for clients; 0: any free ones."""
    fresh = place(kind, len(state.instances), main, taken, clock)
    changed = [
        InstanceState(one.name, one.address, {**one.ports, "main": new.ports["main"]})
        for one, new in zip(state.instances, fresh.instances, strict=True)
    ]
    return ServerState(changed, state.auth)


def taken_ports(state: ServerState) -> list[tuple[str, int]]:
    """Addresses where an instance that does not run would listen, and somebody else does."""
    return [
        (one.address, port)
        for one in state.instances
        if not is_alive(one.process)
        for port in one.ports.values()
        if not ports.is_free(one.address, port)
    ]


def instances_of(state: ServerState, folder: Path) -> tuple[Instance, ...]:
    return tuple(
        Instance(one.name, number, one.address, one.ports, folder / one.name)
        for number, one in enumerate(state.instances, 1)
    )


def _addresses(kind: Server, count: int) -> list[str]:
    if kind.own_addresses:
        return [f"127.0.0.{number}" for number in range(1, count + 1)]
    return [LOOPBACK] * count


def _name(kind: Server, number: int, count: int) -> str:
    return kind.name if count == 1 else f"{kind.name}-{number}"
